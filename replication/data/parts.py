"""A data set while it is written: three files that only grow, and a journal of the parts sealed in them.

    cache/<digest>.partial/tokens.bin, offsets.npy, prompt_lengths.npy      as they will be read
                           parts.jsonl    a line for each part: rows, documents and tokens in it, and its checksum
                           lock           held by the one process that prepares

A part's line is written after its bytes. A command that was killed, or whose machine was, reads the journal, checks
every part against its line, cuts off what comes after the last good one and goes on from there. Parts lie one after
another in the files that are read later: nothing is joined at the end, and 40 GB of tokens never lie there twice.

The content digest is sha256 over the digests of token bytes, offsets and prompt lengths. It knows nothing of parts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from replication.data.encode import Encoded, Part

JOURNAL, LOCK = "parts.jsonl", "lock"
TOKENS, OFFSETS, PROMPTS = "tokens.bin", "offsets.npy", "prompt_lengths.npy"

_LOG = logging.getLogger(__name__)
_HEADER = 128  # bytes of a .npy header of one axis: numpy leaves room in it for the count to grow
_FIRST = bytes(8)  # the first document begins at 0
_CHUNK = 1 << 24  # bytes read at a time


@dataclass
class Growing:
    """What is sealed so far, in numbers and running hashes; `append` adds a part."""

    folder: Path
    dtype: np.dtype[Any]
    prompts: bool
    parts: int = 0
    rows: int = 0
    blank: int = 0
    documents: int = 0
    tokens: int = 0
    hashes: dict[str, Any] = field(default_factory=lambda: _hashes())

    def append(self, part: Part, encoded: Encoded) -> None:
        """Write a part's tokens, then seal it by its line in the journal."""
        pieces = self._pieces(encoded.tokens, encoded.lengths, encoded.prompts)
        for name, piece in pieces.items():
            with (self.folder / name).open("ab") as file:
                file.write(piece)
        counts = {"rows": part.rows, "blank": part.blank, "documents": len(encoded.lengths)}
        line = counts | {"tokens": len(encoded.tokens), "crc": _crc(pieces)}
        with (self.folder / JOURNAL).open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._count(line, pieces)

    def finish(self) -> None:
        """Complete the headers of the array files; nothing is appended after that."""
        for name, count in ((OFFSETS, self.documents + 1), *([(PROMPTS, self.documents)] if self.prompts else [])):
            with (self.folder / name).open("r+b") as file:
                file.write(_header(count))

    @property
    def content(self) -> str:
        """Content digest of what is sealed, sixteen hex digits."""
        return _combined(self.hashes[name] for name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Files that the data set has."""
        return _names(self.prompts)

    def replay(self) -> None:
        """Take up the parts of the journal whose bytes are whole, and cut off the rest."""
        journal = self.folder / JOURNAL
        journal.touch()
        kept = 0
        for line, size in _lines(journal):
            pieces = self._stored(line["documents"], line["tokens"])
            if _crc(pieces) != line["crc"]:
                _LOG.warning("%s: part %d is damaged; it is made anew, with what follows", self.folder, self.parts)
                break
            self._count(line, pieces)
            kept += size
        os.truncate(journal, kept)  # never rewritten: a kill in that moment would lose all parts
        for name, size in self._sizes().items():
            with (self.folder / name).open("r+b" if (self.folder / name).is_file() else "w+b") as file:
                file.write({TOKENS: b"", OFFSETS: _header(0) + _FIRST, PROMPTS: _header(0)}[name])
                file.truncate(size)

    def _count(self, line: dict[str, int], pieces: dict[str, bytes]) -> None:
        for name, piece in pieces.items():
            self.hashes[name].update(piece)
        self.parts += 1
        self.rows += line["rows"]
        self.blank += line["blank"]
        self.documents += line["documents"]
        self.tokens += line["tokens"]

    def _pieces(self, tokens: np.ndarray, lengths: np.ndarray, prompts: np.ndarray) -> dict[str, bytes]:
        ends = self.tokens + np.cumsum(lengths, dtype=np.int64)
        found = {TOKENS: tokens.tobytes(), OFFSETS: ends.tobytes(), PROMPTS: prompts.tobytes()}
        return {name: found[name] for name in self.names}

    def _stored(self, documents: int, tokens: int) -> dict[str, bytes]:
        """The bytes that lie where the next part of this size would."""
        wanted = {TOKENS: tokens * self.dtype.itemsize, OFFSETS: documents * 8, PROMPTS: documents * 8}
        found = {}
        for name, start in self._sizes().items():
            path = self.folder / name
            found[name] = b""
            if path.is_file():
                with path.open("rb") as file:
                    file.seek(start)
                    found[name] = file.read(wanted[name])
        return found

    def _sizes(self) -> dict[str, int]:
        """Bytes of each file that are sealed."""
        sizes = {
            TOKENS: self.tokens * self.dtype.itemsize,
            OFFSETS: _HEADER + 8 * (self.documents + 1),
            PROMPTS: _HEADER + 8 * self.documents,
        }
        return {name: sizes[name] for name in self.names}


def content_of(folder: Path, *, prompts: bool) -> str:
    """Content digest of a finished data set, from all its bytes: 40 GB take one to three minutes."""
    hashes = {name: hashlib.sha256() for name in _names(prompts)}
    for name, digest in hashes.items():
        with (folder / name).open("rb") as file:
            file.seek(0 if name == TOKENS else _HEADER)
            while piece := file.read(_CHUNK):
                digest.update(piece)
    return _combined(hashes.values())


@contextlib.contextmanager
def alone(partial: Path, finished: Path) -> Iterator[bool]:
    """True in the one process that is to write `partial`, held until it leaves; False once `finished` is there.

    Others wait. The lock dies with its process, and whoever waited for it then writes.
    """
    while not finished.is_file():
        partial.mkdir(parents=True, exist_ok=True)
        try:
            handle = (partial / LOCK).open("w")
        except FileNotFoundError:  # renamed or removed since: look again
            continue
        with handle:
            _wait_for(handle, partial)
            # Who held the lock may have finished or cleaned up; then it is the lock of a file that is gone.
            if finished.is_file() or not _is_lock(handle, partial / LOCK):
                continue
            yield True
            return
    yield False


def _wait_for(handle: Any, partial: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _LOG.warning("%s: another process prepares these data; waiting for it", partial)
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is_lock(handle: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _hashes() -> dict[str, Any]:
    found = {name: hashlib.sha256() for name in _names(True)}
    found[OFFSETS].update(_FIRST)
    return found


def _names(prompts: bool) -> tuple[str, ...]:
    return (TOKENS, OFFSETS, PROMPTS) if prompts else (TOKENS, OFFSETS)


def _combined(hashes: Iterable[Any]) -> str:
    return hashlib.sha256(b"".join(digest.digest() for digest in hashes)).hexdigest()[:16]


def _crc(pieces: dict[str, bytes]) -> int:
    crc = 0
    for piece in pieces.values():
        crc = zlib.crc32(piece, crc)
    return crc


def _lines(journal: Path) -> Iterator[tuple[dict[str, int], int]]:
    """Lines of a journal and their length in bytes, up to the first that a kill has torn."""
    for raw in journal.read_bytes().splitlines(keepends=True):
        try:
            line = json.loads(raw)
        except ValueError:
            return
        if not raw.endswith(b"\n"):
            return
        yield line, len(raw)


def _header(count: int) -> bytes:
    buffer = io.BytesIO()
    layout = {"shape": (count,), "fortran_order": False, "descr": "<i8"}
    np.lib.format.write_array_header_1_0(buffer, layout)
    return buffer.getvalue()
