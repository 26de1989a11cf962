"""Token shards: documents tokenised once, then read from disk by memory map.

    cache/<digest>/tokens.bin           all documents one after another, uint16 (uint32 above 65,536 ids)
                   offsets.npy          (n_docs + 1,) int64: document i is tokens[offsets[i] : offsets[i + 1]]
                   prompt_lengths.npy   (n_docs,) int64, instruction data only
                   meta.json            counts, type, checksums, content digest; written last

The digest covers the documents, the tokenizer and the template, so a shard is never stale. Everything is written
into <digest>.partial, part by part (parts.py), and renamed when whole: a process killed half-way leaves nothing that
could be taken for a shard and loses no finished part. One process prepares; others that ask for the same data wait.

A hub data set is streamed. Its shards are what is kept: a second, whole copy of the text in the hub's cache would
cost 60 GB beside 40 GB of tokens, and a compute node reads the shards without network.

A document is its tokens and end-of-text. There is no begin-of-text unless the tokenizer writes one itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from replication.config import Source
from replication.data import chat, encode, parts, sources
from replication.data.encode import Encoder

FORMAT = 1  # in the digest: a changed layout never reads an old shard
Watch = Callable[[int], None]  # told the tokens so far, at the start and after each part

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TokenShards:
    """Tokenised documents on disk. `prompt_lengths` is None for plain text, which is supervised throughout.

    `digest` names what was read and how, `content` what came of it ("" in folders that older code wrote).
    """

    folder: Path
    digest: str
    eos: int
    tokens: np.ndarray  # (n_tokens,) uint16 or uint32, memory-mapped
    offsets: np.ndarray  # (n_docs + 1,) int64
    prompt_lengths: np.ndarray | None  # (n_docs,) int64
    loss_on_prompt: bool
    content: str = ""

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


def prepare_text(
    source: Source, tokenizer: Any, cache: Path, *, workers: int = 1, watch: Watch | None = None
) -> TokenShards:
    """Shards of a text source (column "text"), made unless they are there; what a killed command left is gone on with.

    Args:
        workers: processes that tokenise; 1 starts none. The shards are the same for any number.
    """
    encoder = encode.encoder(tokenizer)
    folder = cache / _digest(source, tokenizer, "text")
    return _prepare(source, encoder, folder, workers=workers, watch=watch, loss_on_prompt=False)


def prepare_instruct(
    source: Source,
    template: str,
    tokenizer: Any,
    cache: Path,
    *,
    loss_on_prompt: bool = False,
    workers: int = 1,
    watch: Watch | None = None,
) -> TokenShards:
    """Shards of an instruction source (columns "prompt" and "response"), as `prepare_text` makes them."""
    chat.check_template(template)
    encoder = encode.encoder(tokenizer, template)
    folder = cache / _digest(source, tokenizer, f"instruct:{loss_on_prompt}:{template}")
    return _prepare(source, encoder, folder, workers=workers, watch=watch, loss_on_prompt=loss_on_prompt)


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
        content=meta.get("content", ""),
    )


def verify(shards: TokenShards) -> str:
    """Content digest of shards, from all their bytes; `open_shards` looks at samples only.

    Raises:
        ValueError: it is not the one that was written.
    """
    found = parts.content_of(shards.folder, prompts=shards.prompt_lengths is not None)
    if found != (shards.content or found):
        raise ValueError(f"corrupt token shard: {shards.folder} is not what was written; delete it to prepare it anew")
    return found


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
    source: Source, encoder: Encoder, folder: Path, *, workers: int, watch: Watch | None, loss_on_prompt: bool
) -> TokenShards:
    partial = folder.with_name(f"{folder.name}.partial")
    with parts.alone(partial, folder / "meta.json") as first:
        if first:
            growing = parts.Growing(partial, np.dtype(encoder.dtype), prompts="prompt" in encoder.columns)
            growing.replay()
            fixed = {"digest": folder.name, "eos": encoder.eos, "dtype": encoder.dtype}
            try:
                _grow(growing, source, encoder, workers=workers, watch=watch)
                _seal(growing, fixed | {"loss_on_prompt": loss_on_prompt, "where": source.where})
            finally:
                if not growing.documents:  # no work is lost, and a mistaken source leaves nothing behind
                    shutil.rmtree(partial)
            partial.rename(folder)
            for name in (parts.JOURNAL, parts.LOCK):
                (folder / name).unlink()
    return open_shards(folder)


def _grow(growing: parts.Growing, source: Source, encoder: Encoder, *, workers: int, watch: Watch | None) -> None:
    """Tokenise what is not sealed yet, until the source ends or has given its `max_tokens`."""
    wanted = math.inf if source.max_tokens is None else source.max_tokens
    with tqdm(desc="tokenise", unit="tok", unit_scale=True, disable=True if watch else None) as bar:
        tell = watch or (lambda tokens: bar.update(tokens - bar.n))
        tell(growing.tokens)
        if growing.tokens < wanted:
            rows = islice(sources.documents(source, stream=True), growing.rows, None)
            cuts = encode.cut(rows, encoder.columns, where=source.where, first=growing.rows)
            with contextlib.closing(encode.tokenise(cuts, encoder, workers=workers)) as tokenised:
                for part, encoded in tokenised:
                    growing.append(part, encoded.until(wanted - growing.tokens))
                    tell(growing.tokens)
                    if growing.tokens >= wanted:
                        break
    if growing.blank:
        _LOG.warning("%s: left out %d documents without text", source.where, growing.blank)
    if not growing.documents:
        column = encoder.columns[-1]
        raise ValueError(f"all {growing.blank} documents of {source.where!r} are without text in {column!r}")


def _seal(growing: parts.Growing, fixed: dict[str, Any]) -> None:
    growing.finish()
    files = [growing.folder / name for name in growing.names]
    known = {path.name: (path.stat().st_size, _checksum(path)) for path in sorted(files)}
    counts = {"documents": growing.documents, "tokens": growing.tokens, "content": growing.content}
    meta = growing.folder / "meta.json"
    meta.write_text(json.dumps(fixed | counts | {"files": known}, indent=1))
    for path in (*files, meta):
        with path.open("rb") as file:
            os.fsync(file.fileno())


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
