"""Data of a study as token shards, made ahead of the training: what `run` would otherwise do before its first step.

Runs that read the same documents through the same tokenizer share their shards. What is finished is checked whole, what
a killed command left is gone on with.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from experiments import studies
from experiments.jobs import one_line, quiet
from experiments.options import positive
from replication.config import IFT, Run, Source, Task
from replication.scale import Scale

if TYPE_CHECKING:
    from replication.data.tokens import TokenShards, Watch

HELP = "tokenise the data of a study into shards; continues what stands"


@dataclass(frozen=True)
class DataSet:
    """Documents, how they are rendered, and the tokenizer: what decides the tokens of a run."""

    source: Source
    template: str | None
    loss_on_prompt: bool
    tokenizer: str


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready: its shards and the seconds that this command spent on it."""

    data: DataSet
    shards: TokenShards
    seconds: float


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("study", nargs="?", default=studies.MAIN, help="a name that `list` prints (default: all)")
    parser.add_argument("--workers", type=positive, default=1, help="processes that tokenise (default 1: this one)")


def run(options: argparse.Namespace, scale: Scale) -> int:
    """Prepare every data set of a study and print a table of them; exit status 1 where one failed."""
    quiet()
    if scale.side:
        return _open_streams(studies.runs(options.study, scale, seeds=1), options.runs)
    wanted = data_sets(studies.runs(options.study, scale, seeds=1))
    ready, failed = [], []
    with _terminable():
        for data in wanted:
            try:
                ready.append(prepare(data, options.runs, workers=options.workers, expected=expected(data, scale)))
            except (ValueError, RuntimeError, OSError) as error:
                failed.append(f"FAILED {data.source.where}: {one_line(error)}")
    if ready:
        print(table(ready))
    for line in failed:
        print(line, file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(wanted)} data sets failed; the same command continues", file=sys.stderr)
    return 1 if failed else 0


def _open_streams(runs: list[Run], root: Path) -> int:
    """Prepare what the runs of a side study read, features and all, as their first step would."""
    from replication.models import tokenizer_of
    from replication.tasks import open_stream

    kinds = {(run.task, run.seq_len, run.tokenizer or run.model): run for run in runs}
    for run in kinds.values():
        stream = open_stream(run, tokenizer_of(run), cache=root / "cache")
        where = run.task.source.where.removeprefix("python:replication.")
        print(f"{where}  {stream.size:,} sequences  {int(stream.real.sum()):,} tokens  digest {stream.digest}")
    return 0


def data_sets(runs: list[Run]) -> list[DataSet]:
    """The distinct data sets of these runs, in their order."""
    return list(dict.fromkeys(_data_set(run.task, run.tokenizer or run.model) for run in runs))


def expected(data: DataSet, scale: Scale) -> float | None:
    """Tokens that a data set will have, as far as the scale says so; None where it does not."""
    if data.source.limit is not None or data.source.part != "all":
        return None
    sizes = [s.size.tokens for _, s in scale.settings if s.size and s.task.source == data.source]
    known = [size for size in (*sizes, data.source.max_tokens) if size]
    return min(known) if known else None


def prepare(data: DataSet, root: Path, *, workers: int = 1, expected: float | None = None) -> Prepared:
    """Make or check the shards of one data set under `root`/cache, with a progress bar.

    Raises:
        ValueError: its documents or its shards are not what they should be.
        FileNotFoundError: no such data, or the hub does not give them.
    """
    from replication.data import tokens
    from replication.models import load_tokenizer

    began = time.monotonic()
    with _bar(data.source.where, expected) as watch:
        tokenizer = load_tokenizer(data.tokenizer)
        how: dict[str, Any] = {"workers": workers, "watch": watch}
        if data.template is None:
            shards = tokens.prepare_text(data.source, tokenizer, root / "cache", **how)
        else:
            how["loss_on_prompt"] = data.loss_on_prompt
            shards = tokens.prepare_instruct(data.source, data.template, tokenizer, root / "cache", **how)
    tokens.verify(shards)
    return Prepared(data, shards, time.monotonic() - began)


def table(ready: list[Prepared]) -> str:
    """A line for each data set: documents, tokens, disk, content digest, seconds."""
    rows = [("data set", "documents", "tokens", "disk", "digest", "seconds")]
    for item in ready:
        size = sum(path.stat().st_size for path in item.shards.folder.iterdir())
        counts = (f"{item.shards.n_docs:,}", f"{item.shards.n_tokens:,}", f"{size / 1e9:.3f} GB")
        digest = item.shards.content or "(made before digests)"
        rows.append((_label(item.data), *counts, digest, f"{item.seconds:.1f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in rows)


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _label(data: DataSet) -> str:
    revision = f"@{data.source.revision[:8]}" if data.source.revision else ""
    return data.source.where.removeprefix("python:replication.") + revision


def _data_set(task: Task, tokenizer: str) -> DataSet:
    if isinstance(task, IFT):
        return DataSet(task.source, task.template, task.loss_on_prompt, tokenizer)
    return DataSet(task.source, None, False, tokenizer)


@contextlib.contextmanager
def _bar(where: str, expected: float | None) -> Iterator[Watch]:
    """A bar over tokens, with time left where the size is known; in a log file a line every half minute."""
    pause = 1.0 if sys.stderr.isatty() else 30.0
    with tqdm(desc=where, total=expected, unit="tok", unit_scale=True, mininterval=pause, dynamic_ncols=True) as bar:
        started = False

        def watch(tokens: int) -> None:
            nonlocal started
            if not started:  # what stands already is no part of the speed
                started, bar.initial, bar.n = True, tokens, tokens
            bar.update(tokens - bar.n)

        yield watch


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: workers stopped, and a word that the same command continues."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
