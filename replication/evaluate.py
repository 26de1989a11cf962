"""Score checkpoints: every eval once, kept beside the run, never lost and never paid for twice.

    <run>/evals/step_000193/<eval>@<version>/   scores.json   metrics and per-item values
                                                samples.jsonl.gz   per item: asked, answered, graded, why it failed
    <root>/answers/                             what models answered, by weights and engine (evals/journal.py)

A folder appears whole or not at all. A score made under another definition of the same name and version is refused:
raise the version instead. Before anything is scored, the gates of this engine and these weights must hold (gates.py).
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from replication import gates, provenance, seeding
from replication.checkpoints import read_meta
from replication.config import Run, Source, encode
from replication.data.sources import documents, fingerprint
from replication.encoding import decode
from replication.evals import evaluate as run_eval
from replication.evals.classifier import Classifier
from replication.evals.generate import TransformersGenerator
from replication.evals.journal import Journal, open_folder
from replication.evals.reader import Reader
from replication.evals.rehearsal import rehearse
from replication.evals.result import Result
from replication.evals.transcriber import Transcriber
from replication.evals.vllm_engine import VLLMGenerator, servable
from replication.methods.merge import load_merged, load_weights
from replication.models import Weights, form_of, identity, load_tokenizer, locate
from replication.runs import RunDir, atomic_folder, is_adapter, locked, now, read_json, write_json
from replication.specs import Eval

EngineName = Literal["transformers", "vllm"]
_Engine = TransformersGenerator | VLLMGenerator
# What answers the evals of models that write nothing: it opens weights and knows how to mend them.
READERS: dict[str, type[Reader]] = {"speech": Transcriber, "classifier": Classifier}
# What is told while an eval goes on: run, eval, questions answered, questions in all.
Watch = Callable[[str, str, int, int], None]

_ANEW = "restore it, or remove that folder to train anew"


@dataclass(frozen=True)
class Candidate:
    """Weights to be scored on these evals, and the folder that keeps the scores.

    `manifest` is what a folder of weights that were not trained here is known by, `mend` the advice where the files of
    the tuned weights are damaged.
    """

    folder: RunDir
    name: str
    step: int
    weights: Weights
    tokenizer: str
    evals: tuple[Eval, ...]
    seed: int = 0
    manifest: dict[str, object] | None = None
    mend: str | None = None

    def asked(self) -> dict[str, str]:
        """Digests of whose answers are wanted: weights and tokenizer."""
        return {**self.weights.identity(), "tokenizer": identity(self.tokenizer)}

    @property
    def wanted(self) -> list[Eval]:
        """The evals that it has not been scored on yet, or only with other weights, another tokenizer or other data.

        Raises:
            ValueError: a score of the same name and version was made under another definition.
        """
        asked = self.asked()
        return [spec for spec in self.evals if not _scored(score_folder(self.folder, self.step, spec), spec, asked)]


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
    weights = Weights(locate(run.model), found[-1], form_of(run))
    step = read_meta(found[-1]).step
    return Candidate(folder, run.name(), step, weights, run.tokenizer or run.model, tuple(evals), run.seed)


def on_its_way(run: Run, folder: RunDir, evals: Sequence[Eval]) -> list[Candidate]:
    """Every kept checkpoint of a run with a ladder, as the paper scored its Tulu mix; else its last."""
    last = of_run(run, folder, evals)
    if not run.ladder:
        return [last]
    return [
        replace(last, step=read_meta(path).step, weights=replace(last.weights, tuned=path))
        for path in folder.checkpoints()
    ]


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
    mend = f"fetch {weights.tuned} again" if weights.tuned else None
    manifest = {"name": name, "digest": digest, "error": None, **notes}
    return Candidate(folder, name, 0, weights, tokenizer, tuple(evals), manifest=manifest, mend=mend)


def _scored(folder: Path, spec: Eval, asked: dict[str, str]) -> bool:
    if not (folder / "scores.json").is_file():
        return False
    known = read_json(folder / "scores.json")
    if decode(known["spec"]) != spec:
        raise ValueError(
            f"{folder} was scored under another definition of {spec.name!r} version {spec.version}; raise the version "
            "of the eval, or remove that folder (`evaluate --rescore` compares conventions without asking again)"
        )
    # Scores of before these were kept stand.
    whose_answers = {key: known.get("engine", asked).get(key) for key in asked}
    return whose_answers == asked and known.get("data", _data(spec)) == _data(spec)


def _data(spec: Eval) -> list[str]:
    """Digests of the rows an eval asks and of its worked examples."""
    return [
        _generated(source) if source.where.startswith("python:") else fingerprint(source) for source in _sources(spec)
    ]


# Generated rows cannot change while this process runs, and take a while to make.
_generated = functools.cache(fingerprint)


def score_folder(folder: RunDir, step: int, spec: Eval) -> Path:
    """Where one eval of one checkpoint lies."""
    return folder.path / "evals" / f"step_{step:06d}" / f"{spec.name}@{spec.version}"


def score(candidate: Candidate, root: Path, *, watch: Watch | None = None) -> int:
    """Score one candidate by the transformers engine on what is missing; returns the number of new scores."""
    if not candidate.wanted:
        _seal(candidate)
        return 0
    if candidate.weights.form.kind != "language":
        return _ask(candidate, READERS[candidate.weights.form.kind](candidate.weights, candidate.mend), watch)
    tokenizer = load_tokenizer(candidate.tokenizer)
    return _score(candidate, _transformers(candidate, tokenizer), tokenizer, root, watch)


def score_all(
    candidates: Sequence[Candidate], root: Path, *, engine: EngineName, watch: Watch | None = None
) -> Iterator[tuple[Candidate, int | str]]:
    """Score one candidate after the other; with vLLM, one engine start serves all that share base and tokenizer.

    Yields each candidate with the number of its new scores, or the error that kept it from being scored: it does not
    keep the others. All data are looked at before the first model is loaded.
    """
    for source in {source for candidate in candidates for spec in candidate.wanted for source in _sources(spec)}:
        next(documents(source))
    if engine == "transformers":
        for candidate in candidates:
            yield candidate, _tried(functools.partial(score, candidate, root, watch=watch))
        return
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.weights.base, candidate.tokenizer), []).append(candidate)
    for (base, tokenizer), members in groups.items():
        waiting = [member for member in members if member.wanted]
        for member in members:
            if member not in waiting:
                _seal(member)
                yield member, 0
        if waiting:
            yield from _serve(base, load_tokenizer(tokenizer), waiting, root, watch)


def _tried(work: Callable[[], int]) -> int | str:
    """What the work gives, or the line that says why not."""
    try:
        return work()
    except (ValueError, RuntimeError, OSError) as error:
        return " ".join(str(error).split())[:600] or type(error).__name__


def _sources(spec: Eval) -> list[Source]:
    shots = getattr(spec, "shots", None)
    return [spec.source, *([shots.source] if shots else [])]


def _serve(
    base: str, tokenizer: PreTrainedTokenizerBase, members: list[Candidate], root: Path, watch: Watch | None
) -> Iterator[tuple[Candidate, int | str]]:
    tuned = {member.weights.tuned for member in members}
    adapters = sorted(folder for folder in tuned if folder is not None and is_adapter(folder) and servable(folder))
    engine = VLLMGenerator(base, tokenizer, adapters=adapters)
    with contextlib.closing(engine):
        for member in members:
            yield member, _tried(functools.partial(_load_and_score, member, engine, tokenizer, root, watch))


def _load_and_score(
    candidate: Candidate, engine: VLLMGenerator, tokenizer: PreTrainedTokenizerBase, root: Path, watch: Watch | None
) -> int:
    with _loadable(candidate) as weights:
        engine.load(weights)
        return _score(candidate, engine, tokenizer, root, watch)


@contextlib.contextmanager
def _loadable(candidate: Candidate) -> Iterator[Weights]:
    """The weights as vLLM takes them: an adapter of too high a rank is merged into a full checkpoint for the while."""
    weights = candidate.weights
    if weights.tuned is None or not is_adapter(weights.tuned) or servable(weights.tuned):
        yield weights
        return
    candidate.folder.path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="merged-", dir=candidate.folder.path) as folder:
        load_merged(weights.base, weights.tuned, mend=candidate.mend).save_pretrained(folder)
        yield Weights(weights.base, Path(folder))


def _transformers(candidate: Candidate, tokenizer: PreTrainedTokenizerBase) -> TransformersGenerator:
    model: Any = load_weights(candidate.weights, mend=candidate.mend)
    return TransformersGenerator(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)


def _score(
    candidate: Candidate, engine: _Engine, tokenizer: PreTrainedTokenizerBase, root: Path, watch: Watch | None
) -> int:
    for spec in candidate.wanted:
        _rehearse(spec, candidate.tokenizer, engine.context, tuple(_data(spec)))
    gates.refuse(gates.own(engine, candidate.weights, tokenizer))
    asked = candidate.asked()
    answers = open_folder(root, asked | engine.identity())

    def journal(spec: Eval) -> Journal:
        told = _watching(watch, candidate.name, spec.name)
        return Journal(engine, answers / f"{spec.name}@{spec.version}", watch=told)

    return _ask_all(candidate, asked | engine.identity(), journal)


def _ask(candidate: Candidate, reader: Reader, watch: Watch | None) -> int:
    """Score weights that hear or classify: all evals in one go, from data that are here, without a journal."""

    def told(spec: Eval) -> Reader:
        return replace(reader, watch=_watching(watch, candidate.name, spec.name))

    return _ask_all(candidate, candidate.asked() | reader.identity(), told)


def _ask_all(candidate: Candidate, engine: dict[str, str], asks: Callable[[Eval], Any]) -> int:
    """Ask what is missing through `asks(spec)` and keep it; returns the number of new scores."""
    with locked(RunDir(candidate.folder.path / "evals"), wait=True):
        wanted = candidate.wanted  # again: another evaluation may have had the lock until now
        _open(candidate)
        for spec in wanted:
            began = time.monotonic()
            result = run_eval(spec, asks(spec), seeding.derive(candidate.seed, "eval", spec.name))
            _keep(candidate, spec, result, engine=engine, seconds=time.monotonic() - began)
        _seal(candidate)
    return len(wanted)


@functools.cache
def _rehearse(spec: Eval, tokenizer: str, context: int, data: tuple[str, ...]) -> None:
    """Every eval is taken to its first question before any is asked; once in a process for the same data."""
    rehearse(spec, load_tokenizer(tokenizer), context)


def _open(candidate: Candidate) -> None:
    """Write the first manifest of a model that was not trained here."""
    if candidate.manifest is not None and not candidate.folder.manifest:
        code = provenance.code()
        first = {"status": "running", "code": code.label, "dirty": code.dirty, "started": now()}
        write_json(candidate.folder.path / "manifest.json", {**candidate.manifest, **first})


def _seal(candidate: Candidate) -> None:
    """A model that was not trained here is complete once it is scored on all that is asked."""
    if candidate.manifest is not None and candidate.folder.status == "running":
        candidate.folder.update(status="complete")


def _watching(watch: Watch | None, run: str, name: str) -> Callable[[int, int], None] | None:
    if watch is None:
        return None
    return lambda done, total: watch(run, name, done, total)


def _keep(candidate: Candidate, spec: Eval, result: Result, *, engine: dict[str, str], seconds: float) -> None:
    content: dict[str, Any] = {
        "spec": encode(spec),
        "data": _data(spec),
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
