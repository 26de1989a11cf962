"""Score checkpoints: every eval once, kept beside the run, never lost and never paid for twice.

    <run>/evals/step_000193/<eval>@<version>/   scores.json   metrics and per-item values
                                                samples.jsonl.gz   per item: asked, answered, graded, why it failed
    <root>/answers/                             what models answered, by weights and engine (evals/journal.py)

A folder appears whole or not at all. A score made under another definition of the same name and version is refused:
raise the version instead. Before anything is scored, the gates of this engine and these weights must hold (gates.py).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from replication import gates, provenance, seeding
from replication.checkpoints import read_meta
from replication.config import Run, Source, encode
from replication.data.sources import documents
from replication.encoding import decode
from replication.evals import evaluate as run_eval
from replication.evals.generate import Engine, TransformersGenerator
from replication.evals.journal import Journal, open_folder, whose
from replication.evals.result import Result
from replication.evals.vllm_engine import VLLMGenerator
from replication.methods.merge import load_merged
from replication.models import Weights, identity, load_model, load_tokenizer, locate
from replication.runs import RunDir, atomic_folder, is_adapter, locked, now, read_json, write_json
from replication.specs import Eval

EngineName = Literal["transformers", "vllm"]
# What is told while an eval goes on: run, eval, questions answered, questions in all.
Watch = Callable[[str, str, int, int], None]

_ANEW = "restore it, or remove that folder to train anew"


@dataclass(frozen=True)
class Candidate:
    """Weights to be scored on these evals, and the folder that keeps the scores.

    `mend` is the advice where the files of the tuned weights are damaged.
    """

    folder: RunDir
    name: str
    step: int
    weights: Weights
    tokenizer: str
    evals: tuple[Eval, ...]
    seed: int = 0
    mend: str | None = None

    @property
    def wanted(self) -> list[Eval]:
        """The evals that it has not been scored on yet."""
        return missing(self.folder, self.step, self.evals)


def of_run(run: Run, folder: RunDir, evals: Sequence[Eval]) -> Candidate:
    """The last checkpoint of a finished run.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the run was trained from another base than its name stands for now.
    """
    found = folder.checkpoints()
    if not found:
        advice = f"remove {folder.path} and run it again" if folder.status == "complete" else "train it first"
        raise FileNotFoundError(f"{folder.path} has no checkpoint; {advice}")
    current = identity(run.model)
    begun = folder.manifest.get("model_digest", current)
    if begun != current:
        raise ValueError(f"{folder.path} was trained from another {run.model} ({begun}, now {current}); {_ANEW}")
    weights = Weights(locate(run.model), found[-1])
    step = read_meta(found[-1]).step
    return Candidate(folder, run.name(), step, weights, run.tokenizer or run.model, tuple(evals), run.seed)


def of_model(
    weights: Weights, folder: RunDir, evals: Sequence[Eval], *, name: str, tokenizer: str, **notes: object
) -> Candidate:
    """A model that was not trained here; its folder gets a manifest, with `notes`, so that `collect` finds it.

    Raises:
        ValueError: the folder holds scores of other weights.
    """
    digest = "-".join(found[:8] for found in weights.identity().values())
    if folder.manifest and folder.manifest["digest"] != digest:
        raise ValueError(f"{folder.path} holds scores of other weights; remove that folder")
    folder.path.mkdir(parents=True, exist_ok=True)
    if not folder.manifest:
        code = provenance.code()
        content = {"status": "complete", "name": name, "digest": digest, "code": code.label, "dirty": code.dirty}
        write_json(folder.path / "manifest.json", content | {"error": None, "started": now()} | notes)
    mend = f"fetch {weights.tuned} again" if weights.tuned else None
    return Candidate(folder, name, 0, weights, tokenizer, tuple(evals), mend=mend)


def missing(folder: RunDir, step: int, evals: Sequence[Eval]) -> list[Eval]:
    """The evals that this checkpoint has not been scored on yet.

    Raises:
        ValueError: a score of the same name and version was made under another definition.
    """
    wanted = []
    for spec in evals:
        known = score_folder(folder, step, spec) / "scores.json"
        if not known.is_file():
            wanted.append(spec)
        elif decode(read_json(known)["spec"]) != spec:
            raise ValueError(
                f"{known.parent} was scored under another definition of {spec.name!r} version {spec.version}; "
                "raise the version of the eval, or remove that folder"
            )
    return wanted


def score_folder(folder: RunDir, step: int, spec: Eval) -> Path:
    """Where one eval of one checkpoint lies."""
    return folder.path / "evals" / f"step_{step:06d}" / f"{spec.name}@{spec.version}"


def score(candidate: Candidate, root: Path, *, watch: Watch | None = None) -> int:
    """Score one candidate by the transformers engine on what is missing; returns the number of new scores."""
    if not candidate.wanted:
        return 0
    tokenizer = load_tokenizer(candidate.tokenizer)
    return _score(candidate, _transformers(candidate, tokenizer), tokenizer, root, watch)


def score_all(
    candidates: Sequence[Candidate], root: Path, *, engine: EngineName, watch: Watch | None = None
) -> Iterator[tuple[Candidate, int]]:
    """Score one candidate after the other; with vLLM, one engine start serves all that share base and tokenizer.

    Yields each candidate with the number of its new scores, so that the caller can report them as they come. All data
    are looked at before the first model is loaded.
    """
    for source in {source for candidate in candidates for spec in candidate.wanted for source in _sources(spec)}:
        next(documents(source))
    if engine == "transformers":
        for candidate in candidates:
            yield candidate, score(candidate, root, watch=watch)
        return
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.weights.base, candidate.tokenizer), []).append(candidate)
    for (base, tokenizer), members in groups.items():
        yield from ((member, 0) for member in members if not member.wanted)
        if waiting := [member for member in members if member.wanted]:
            yield from _serve(base, load_tokenizer(tokenizer), waiting, root, watch)


def _sources(spec: Eval) -> list[Source]:
    shots = getattr(spec, "shots", None)
    return [spec.source, *([shots.source] if shots else [])]


def _serve(
    base: str, tokenizer: PreTrainedTokenizerBase, members: list[Candidate], root: Path, watch: Watch | None
) -> Iterator[tuple[Candidate, int]]:
    tuned = {member.weights.tuned for member in members}
    adapters = sorted(folder for folder in tuned if folder is not None and is_adapter(folder))
    engine = VLLMGenerator(base, tokenizer, adapters=adapters)
    with contextlib.closing(engine):
        for member in members:
            engine.load(member.weights)
            yield member, _score(member, engine, tokenizer, root, watch)


def _transformers(candidate: Candidate, tokenizer: PreTrainedTokenizerBase) -> TransformersGenerator:
    weights = candidate.weights
    model = (
        load_model(weights.base)
        if weights.tuned is None
        else load_merged(weights.base, weights.tuned, mend=candidate.mend)
    )
    return TransformersGenerator(model, tokenizer)


def _score(
    candidate: Candidate, engine: Engine, tokenizer: PreTrainedTokenizerBase, root: Path, watch: Watch | None
) -> int:
    gates.refuse(gates.own(engine, candidate.weights, tokenizer))
    whole = whose(candidate.weights.identity(), identity(candidate.tokenizer), engine)
    answers = open_folder(root, whole)
    with locked(RunDir(candidate.folder.path / "evals"), wait=True):
        wanted = candidate.wanted  # again: another evaluation may have had the lock until now
        for spec in wanted:
            began = time.monotonic()
            told = _watching(watch, candidate.name, spec.name)
            asked = Journal(engine, answers / f"{spec.name}@{spec.version}", watch=told)
            result = run_eval(spec, asked, seeding.derive(candidate.seed, "eval", spec.name))
            _keep(candidate, spec, result, engine=whole, seconds=time.monotonic() - began)
    return len(wanted)


def _watching(watch: Watch | None, run: str, name: str) -> Callable[[int, int], None] | None:
    if watch is None:
        return None
    return lambda done, total: watch(run, name, done, total)


def _keep(candidate: Candidate, spec: Eval, result: Result, *, engine: dict[str, str], seconds: float) -> None:
    content: dict[str, Any] = {
        "spec": encode(spec),
        "step": candidate.step,
        "code": provenance.code().label,
        "engine": engine,
        "seconds": round(seconds, 2),
        "metrics": [asdict(m) for m in result.metrics],
        "items": [asdict(i) for i in result.items],
    }
    with atomic_folder(score_folder(candidate.folder, candidate.step, spec)) as partial:
        lines = "".join(json.dumps(row) + "\n" for row in result.samples)
        (partial / "samples.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        write_json(partial / "scores.json", content)
