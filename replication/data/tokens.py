"""Token shards: documents tokenised once, then read from disk by memory map.

    cache/<digest>/tokens.bin           all documents one after another, uint16 (uint32 above 65,536 ids)
                   offsets.npy          (n_docs + 1,) int64: document i is tokens[offsets[i] : offsets[i + 1]]
                   prompt_lengths.npy   (n_docs,) int64, instruction data only
                   meta.json            counts, type, checksums; written last

The digest covers the documents, the tokenizer and the template, so a shard is never stale. Everything is
written into a partial folder that is renamed when whole: a process killed half-way leaves nothing that
could be taken for a shard, and two processes that prepare the same data do not disturb each other.

A document is its tokens and end-of-text. There is no begin-of-text unless the tokenizer writes one itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from replication.config import Source
from replication.data import chat, sources

FORMAT = 1  # in the digest: a changed layout never reads an old shard
BATCH = 512  # documents per tokenizer call; a fast tokenizer gains nothing beyond a few hundred

_LOG = logging.getLogger(__name__)
_Encoded = tuple[list[int], int]  # ids of a document, length of its prompt


@dataclass(frozen=True, eq=False)
class TokenShards:
    """Tokenised documents on disk. `prompt_lengths` is None for plain text, which is supervised throughout."""

    folder: Path
    digest: str
    eos: int
    tokens: np.ndarray  # (n_tokens,) uint16 or uint32, memory-mapped
    offsets: np.ndarray  # (n_docs + 1,) int64
    prompt_lengths: np.ndarray | None  # (n_docs,) int64
    loss_on_prompt: bool

    @property
    def n_docs(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        """Number of tokens, one end-of-text per document included."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per document, shape (n_docs,)."""
        return np.diff(self.offsets)

    def doc(self, i: int) -> np.ndarray:
        """Token ids of document i, int64, shape (length,)."""
        return self.tokens[self.offsets[i] : self.offsets[i + 1]].astype(np.int64)

    def supervised_from(self, i: int) -> int:
        """Index of the first token of document i that carries loss, were it not the first of its document."""
        if self.prompt_lengths is None or self.loss_on_prompt:
            return 0
        return int(self.prompt_lengths[i])


def prepare_text(source: Source, tokenizer: Any, cache: Path) -> TokenShards:
    """Shards of a text source (column "text"), made unless they are there."""

    def encode(rows: Iterable[dict[str, Any]]) -> Iterator[_Encoded]:
        texts = [row["text"] for row in rows]
        for ids in tokenizer(texts, verbose=False)["input_ids"]:
            yield (ids if ids[-1:] == [eos] else [*ids, eos]), 0

    eos = chat.end_of_text(tokenizer)
    digest = _digest(source, tokenizer, "text")
    return _prepare(source, ("text",), encode, tokenizer, cache / digest)


def prepare_instruct(
    source: Source, template: str, tokenizer: Any, cache: Path, *, loss_on_prompt: bool = False
) -> TokenShards:
    """Shards of an instruction source (columns "prompt" and "response"), made unless they are there."""

    def encode(rows: Iterable[dict[str, Any]]) -> Iterator[_Encoded]:
        pairs = [(row["prompt"], row["response"]) for row in rows]
        for prompt, response in chat.render_all(template, pairs, tokenizer):
            yield prompt + response, len(prompt)

    chat.check_template(template)
    digest = _digest(source, tokenizer, f"instruct:{loss_on_prompt}:{template}")
    return _prepare(source, ("prompt", "response"), encode, tokenizer, cache / digest, loss_on_prompt=loss_on_prompt)


def open_shards(folder: Path) -> TokenShards:
    """Open a prepared folder and check that its files are what was written.

    Raises:
        FileNotFoundError: there is no shard.
        ValueError: a file was changed or cut; names it.
    """
    if not (folder / "meta.json").is_file():
        raise FileNotFoundError(f"no token shard at {folder}")
    meta = json.loads((folder / "meta.json").read_text())
    for name, (size, checksum) in meta["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size or _checksum(path) != checksum:
            raise ValueError(f"corrupt token shard: {path} is not what was written; delete {folder} to prepare it anew")
    prompts = folder / "prompt_lengths.npy"
    return TokenShards(
        folder=folder,
        digest=meta["digest"],
        eos=meta["eos"],
        tokens=np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r"),
        offsets=np.load(folder / "offsets.npy", mmap_mode="r"),
        prompt_lengths=np.load(prompts, mmap_mode="r") if prompts.name in meta["files"] else None,
        loss_on_prompt=meta["loss_on_prompt"],
    )


def tokenizer_hash(tokenizer: Any) -> str:
    """Sixteen hex digits over everything in a tokenizer that decides its output."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        model: Any = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    else:
        # Padding and truncation are left behind by earlier calls; they are not part of the vocabulary.
        model = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("padding", "truncation")}
    content = json.dumps([model, tokenizer.eos_token_id, tokenizer.chat_template], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# ---------------------------------------------------------------- writing


def _digest(source: Source, tokenizer: Any, kind: str) -> str:
    content = json.dumps([FORMAT, sources.fingerprint(source), tokenizer_hash(tokenizer), kind])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _prepare(
    source: Source,
    columns: tuple[str, ...],
    encode: Callable[[Iterable[dict[str, Any]]], Iterator[_Encoded]],
    tokenizer: Any,
    folder: Path,
    *,
    loss_on_prompt: bool = False,
) -> TokenShards:
    if (folder / "meta.json").is_file():
        return open_shards(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
        rows = _checked(source, columns)
        encoded = (item for batch in _batches(rows) for item in encode(batch))
        _write(encoded, partial, dtype=dtype, prompts="prompt" in columns)
        fixed = {"digest": folder.name, "eos": chat.end_of_text(tokenizer), "dtype": dtype}
        _seal(partial, fixed | {"loss_on_prompt": loss_on_prompt, "where": source.where})
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_shards(folder)


def _checked(source: Source, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Documents that have all their text; blank ones are left out and counted."""
    blank = kept = 0
    for i, row in enumerate(tqdm(sources.documents(source), desc="tokenise", unit="doc", disable=None)):
        for column in columns:
            if column not in row:
                raise ValueError(f"{source.where!r} has no column {column!r}; it has {sorted(row)}: set Source.columns")
            if not isinstance(row[column], str):
                raise ValueError(f"document {i} of {source.where!r}: {column!r} is {row[column]!r}, not text")
        # Only the last column must say something: a prompt may be empty, a text or a response may not.
        if row[columns[-1]].strip():
            kept += 1
            yield row
        else:
            blank += 1
    if blank:
        _LOG.warning("%s: left out %d documents without text", source.where, blank)
    if not kept:
        raise ValueError(f"all {blank} documents of {source.where!r} are without text in {columns[-1]!r}")


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _write(encoded: Iterable[_Encoded], folder: Path, *, dtype: str, prompts: bool) -> None:
    offsets, prompt_lengths = array("q", [0]), array("q")
    with (folder / "tokens.bin").open("wb") as file:
        for ids, prompt_length in encoded:
            file.write(np.asarray(ids, dtype=dtype).tobytes())
            offsets.append(offsets[-1] + len(ids))
            prompt_lengths.append(prompt_length)
    np.save(folder / "offsets.npy", np.asarray(offsets, dtype=np.int64))
    if prompts:
        np.save(folder / "prompt_lengths.npy", np.asarray(prompt_lengths, dtype=np.int64))


def _seal(folder: Path, fixed: dict[str, Any]) -> None:
    files = {p.name: (p.stat().st_size, _checksum(p)) for p in sorted(folder.iterdir())}
    (folder / "meta.json").write_text(json.dumps(fixed | {"files": files}, indent=1))
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _publish(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        # Another process was faster; its shard has the same digest, so the same tokens.
        if not (folder / "meta.json").is_file():
            raise


def _checksum(path: Path, *, pieces: int = 64, piece: int = 1 << 16) -> int:
    """CRC of up to 64 pieces of 64 KiB, evenly spaced, first and last included: all of a file below 4 MiB.

    A whole-file hash of the paper's 40 GB corpus would cost every start of a run a minute.
    """
    size, crc = path.stat().st_size, 0
    last = max(size - piece, 0)
    starts = range(0, size, piece) if size <= pieces * piece else [last * k // (pieces - 1) for k in range(pieces)]
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            crc = zlib.crc32(file.read(piece), crc)
    return crc
