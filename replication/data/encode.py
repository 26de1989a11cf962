"""Documents to token arrays: cut into parts, tokenised here or by worker processes, handed back in order.

    documents --cut--> parts --tokenise--> arrays          workers + 2 parts are in flight at most

The cut depends on the documents alone, so that neither the number of workers nor a kill changes what is written. A
document is tokenised whole: of all that is held in memory, only a single document has no bound.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from replication.data import chat

# A part is 1 to 3 seconds of one core's work: little to lose by a kill, much against the cost of handing it over.
PART_DOCUMENTS = 4096
PART_CHARACTERS = 4 << 20
# One tokenizer call. A fast tokenizer gains nothing beyond a few hundred documents; while it works, it holds some
# hundred bytes a token.
CALL_DOCUMENTS = 512
CALL_CHARACTERS = 1 << 20

_ENCODER: Encoder | None = None


@dataclass(frozen=True)
class Part:
    """Documents that are tokenised together: their texts, and how many rows were read for them, blank ones too."""

    texts: list[tuple[str, ...]]  # as many columns each as the encoder reads
    rows: int
    blank: int


@dataclass(frozen=True, eq=False)
class Encoded:
    """A tokenised part: its documents one after another, and how long each is."""

    tokens: np.ndarray  # (n_tokens,) uint16 or uint32
    lengths: np.ndarray  # (n_docs,) int64
    prompts: np.ndarray  # (n_docs,) int64, 0 for plain text

    def until(self, wanted: float) -> Encoded:
        """The first documents, up to the one that reaches `wanted` tokens; all where none does."""
        kept = int(np.searchsorted(np.cumsum(self.lengths), wanted)) + 1
        count = int(self.lengths[:kept].sum())
        return Encoded(self.tokens[:count], self.lengths[:kept], self.prompts[:kept])


@dataclass(frozen=True, eq=False)
class Encoder:
    """How a document becomes tokens: plain text where `template` is None, else prompt and response."""

    tokenizer: Any
    eos: int
    dtype: str
    template: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a document must have."""
        return ("text",) if self.template is None else ("prompt", "response")

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> Encoded:
        """Tokens of these documents."""
        ids: list[int] = []
        lengths, prompts = [], []
        for call in _calls(texts):
            for prompt, rest in self._pairs(call):
                ids += prompt
                ids += rest
                lengths.append(len(prompt) + len(rest))
                prompts.append(len(prompt))
        return Encoded(
            np.asarray(ids, dtype=self.dtype), np.asarray(lengths, dtype=np.int64), np.asarray(prompts, dtype=np.int64)
        )

    def _pairs(self, texts: Sequence[tuple[str, ...]]) -> Iterable[tuple[list[int], list[int]]]:
        if self.template is not None:
            return chat.render_all(self.template, [(prompt, response) for prompt, response in texts], self.tokenizer)
        found = chat.ids_of(self.tokenizer, [text for (text,) in texts])
        return [([], ids if ids[-1:] == [self.eos] else [*ids, self.eos]) for ids in found]


def encoder(tokenizer: Any, template: str | None = None) -> Encoder:
    """The encoder of a tokenizer for plain text, or for a template's prompts and responses."""
    eos = chat.end_of_text(tokenizer)
    dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
    # Of a fast tokenizer plain text needs the core only: a worker process then loads no transformers (60 MB, not 400).
    backend = getattr(tokenizer, "backend_tokenizer", None) if template is None else None
    return Encoder(tokenizer if backend is None else backend, eos, dtype, template)


def cut(rows: Iterable[dict[str, Any]], columns: tuple[str, ...], *, where: str, first: int = 0) -> Iterator[Part]:
    """Parts of the documents that have text; blank ones are left out and counted.

    Args:
        first: index of the first row in its source, for messages.

    Raises:
        ValueError: a document lacks a column, or has no text in it.
    """
    texts: list[tuple[str, ...]] = []
    read = blank = characters = 0
    for index, row in enumerate(rows, start=first):
        document = _texts(row, columns, where, index)
        read += 1
        # Only the last column must say something: a prompt may be empty, a text or a response may not.
        if document[-1].strip():
            texts.append(document)
            characters += sum(map(len, document))
        else:
            blank += 1
        if len(texts) == PART_DOCUMENTS or characters >= PART_CHARACTERS:
            yield Part(texts, read, blank)
            texts, read, blank, characters = [], 0, 0, 0
    if read:
        yield Part(texts, read, blank)


def tokenise(
    parts: Iterable[Part], encode: Encoder, *, workers: int = 1
) -> Generator[tuple[Part, Encoded], None, None]:
    """Parts, emptied of their texts, with their tokens, in order.

    Args:
        workers: 1 tokenises in this process; more start as many processes.

    Raises:
        RuntimeError: a worker process was killed.
    """
    if workers == 1:
        for part in parts:
            yield replace(part, texts=[]), encode(part.texts)
        return
    context = multiprocessing.get_context("spawn")
    waiting: deque[tuple[Part, Future[Encoded]]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(encode, os.getpid()))
    try:
        for part in parts:
            waiting.append((replace(part, texts=[]), pool.submit(_encode, part.texts)))
            if len(waiting) == workers + 2:
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    except BrokenProcessPool:
        raise RuntimeError(
            "a tokenising process was killed, most likely for lack of memory; the same command continues where it "
            "stood, fewer --workers need less"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _next(waiting: deque[tuple[Part, Future[Encoded]]]) -> tuple[Part, Encoded]:
    part, future = waiting.popleft()
    return part, future.result()


def _start(encode: Encoder, parent: int) -> None:
    """Set up a worker: one thread, deaf to Ctrl-C, which is the parent's, and dead when the parent dies."""
    global _ENCODER
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died while this process started
        os._exit(1)
    _ENCODER = encode


def _encode(texts: list[tuple[str, ...]]) -> Encoded:
    assert _ENCODER is not None
    return _ENCODER(texts)


def _texts(row: dict[str, Any], columns: tuple[str, ...], where: str, index: int) -> tuple[str, ...]:
    for column in columns:
        if column not in row:
            raise ValueError(f"{where!r} has no column {column!r}; it has {sorted(row)}: set Source.columns")
        if not isinstance(row[column], str):
            raise ValueError(f"document {index} of {where!r}: {column!r} is {row[column]!r}, not text")
    return tuple(row[column] for column in columns)


def _calls(texts: Sequence[tuple[str, ...]]) -> Iterator[Sequence[tuple[str, ...]]]:
    start = characters = 0
    for i, document in enumerate(texts):
        characters += sum(map(len, document))
        if i + 1 - start == CALL_DOCUMENTS or characters >= CALL_CHARACTERS:
            yield texts[start : i + 1]
            start, characters = i + 1, 0
    if start < len(texts):
        yield texts[start:]
