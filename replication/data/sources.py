"""Documents from anywhere, as plain rows with canonical column names.

A `Source` names generated data ("python:module:function"), a local file, a local folder or a hub id; everything
after this module sees an iterator of dicts and does not know which it was.

    where --open--> raw rows --rename columns--> --part, limit--> documents

A folder is either in the hub's layout (its data files are found by split, through `datasets`) or a pile of text
files, one document each. A single text file is one document. Rows keep the columns that nobody renamed, because the
evals ask for more than text (choices, tests, answers). Nothing is tokenised or cached here.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from replication.config import Source, encode
from replication.data import sounds
from replication.provenance import ROOT, resolve

HELDOUT_EVERY = 20  # one document in twenty is held out, as Source.part says

_LOG = logging.getLogger(__name__)
_LOADERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_UNREADABLE = (ValueError, EOFError, zlib.error, gzip.BadGzipFile)  # pyarrow's errors are ValueErrors
_TEXT = {".txt", ".md", ".tex", ".py", ".rst"}


def documents(source: Source, *, stream: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of a source with its columns renamed, its part and limit taken.

    Args:
        stream: read a hub data set as it comes instead of downloading it first and keeping it.

    Raises:
        FileNotFoundError: nothing lies where the source points; says what was tried.
        ValueError: the data are empty, unreadable, or lack a column that `columns` renames.
    """
    rows = (_rename(row, source) for row in _rows(source, stream))
    rows = (row for i, row in enumerate(rows) if _belongs(i, source.part))
    count = 0
    for row in islice(rows, source.limit):
        count += 1
        yield row
    if not count:
        raise ValueError(f"no documents in {source.where!r} (split {source.split!r}, part {source.part!r})")


def fingerprint(source: Source) -> str:
    """Sixteen hex digits that change when the documents change.

    Local files and generated rows are hashed by content; a hub id by its name and revision, so pin the revision.
    """
    identity = {k: v for k, v in encode(source, sparse=True).items() if k != "where"}
    place = resolve(source.where)
    if source.where.startswith("python:"):
        content = _hash(json.dumps(row, sort_keys=True, default=as_json).encode() for row in _generated(source.where))
    elif place is not None:
        content = _hash(_contents(place))
    else:
        content = source.where
    return hashlib.sha256(json.dumps([identity, content], sort_keys=True).encode()).hexdigest()[:16]


def as_json(value: object) -> object:
    """A digest in place of samples or bytes, for hashing rows that hold sound.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    raise TypeError(f"a row holds a {type(value).__name__}, which is no JSON value")


def _rows(source: Source, stream: bool) -> Iterable[dict[str, Any]]:
    if source.where.startswith("python:"):
        return _generated(source.where)
    place = resolve(source.where)
    if place is None:
        return _hub_rows(source, stream)
    if place.is_file():
        return _file_rows(place)
    if sounds.is_sound_folder(place):
        return sounds.rows(place, source.split)
    data = [p for p in place.rglob("*") if _loader(p)]
    texts = sorted(p for p in place.rglob("*") if p.suffix in _TEXT)
    if data and (plain := [p for p in texts if p.suffix != ".md"]):  # a data set has a README.md
        raise ValueError(
            f"{source.where!r} holds data files ({data[0].name}) and texts ({plain[0].name}); give a file, or a folder "
            "of one kind"
        )
    return _load(str(place), source, streaming=True) if data else _text_rows(texts)


def _belongs(index: int, part: str) -> bool:
    return part == "all" or (index % HELDOUT_EVERY == 0) == (part == "heldout")


def _rename(row: dict[str, Any], source: Source) -> dict[str, Any]:
    renamed = dict(row)
    for ours, theirs in source.columns:
        if theirs not in row:
            raise ValueError(f"{source.where!r} has no column {theirs!r} for {ours!r}; it has {sorted(row)}")
        renamed.pop(theirs, None)
    return renamed | {ours: row[theirs] for ours, theirs in source.columns}


# ---------------------------------------------------------------- generators


def _generated(where: str) -> Iterator[dict[str, Any]]:
    parts = where.split(":")
    if len(parts) != 3:
        raise ValueError(f"source {where!r}; expected python:module:function")
    _, module_name, function_name = parts
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise FileNotFoundError(f"source {where!r}: cannot import {module_name}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise FileNotFoundError(f"source {where!r}: module {module_name} has no function {function_name!r}")
    for row in function():
        yield {"text": row} if isinstance(row, str) else dict(row)


# ---------------------------------------------------------------- local files


def _loader(path: Path) -> str | None:
    """Name of the `datasets` loader for a data file; None for everything else."""
    suffixes = path.suffixes[-2:]
    suffix = suffixes[0] if len(suffixes) == 2 and suffixes[1] in (".gz", ".zst", ".xz") else path.suffix
    return _LOADERS.get(suffix)


def _is_data(path: Path) -> bool:
    return _loader(path) is not None or path.suffix in _TEXT


def _file_rows(path: Path) -> Iterable[dict[str, Any]]:
    if not _is_data(path):
        known = sorted({*_LOADERS, *_TEXT})
        raise ValueError(f"{path}: no way to read a {path.suffix or 'nameless'} file; known are {known}, also with .gz")
    if (loader := _loader(path)) is None:
        return _text_rows([path])
    if not path.stat().st_size:
        raise ValueError(f"no documents in {str(path)!r}: the file is empty")
    return _load(loader, Source(str(path)), streaming=True, data_files=str(path))


def _text_rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            yield {"text": path.read_text(encoding="utf-8"), "path": path.name}
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def _contents(place: Path) -> Iterator[bytes]:
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    for path in files:
        if place.is_dir():
            yield str(path.relative_to(place)).encode()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece


def _hash(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


# ---------------------------------------------------------------- datasets


def _hub_rows(source: Source, stream: bool) -> Iterable[dict[str, Any]]:
    """A hub id, or an id and a folder in it ("bigcode/starcoderdata/python").

    What is asked again, such as a benchmark, is downloaded and kept, so that a compute node without network finds it.
    With a limit it is streamed: a desk-sized share of a large corpus should not cost the download of the whole. What
    is tokenised once is streamed too (`stream`): the tokens are what is kept.
    """
    tried = ", ".join(dict.fromkeys(str(base / source.where) for base in (Path.cwd(), ROOT)))
    parts = source.where.split("/")
    if source.where.startswith((".", "/", "~")) or len(parts) < 2 or _is_data(Path(source.where)):
        raise FileNotFoundError(f"no data at {source.where!r}; tried {tried}")
    import datasets

    if source.revision is None:
        _LOG.warning("hub source %s has no pinned revision: what it holds may change", source.where)
    streaming = (stream or source.limit is not None) and not datasets.config.HF_HUB_OFFLINE
    folder = "/".join(parts[2:]) or None
    try:
        return _load("/".join(parts[:2]), source, streaming=streaming, data_dir=folder)
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"no data at {source.where!r}; tried {tried}, and the hub: {_first_line(error)}. If the data set is gated, "
            "accept its terms on its page and run `hf auth login`; without network, prepare where there is one"
        ) from error


def _load(path: str, source: Source, *, streaming: bool, **options: Any) -> Iterator[dict[str, Any]]:
    # `datasets` takes two seconds to import, and the embedded world does without it.
    import datasets

    named = {} if "data_files" in options else {"name": source.name, "revision": source.revision}
    try:
        loaded = datasets.load_dataset(path, split=source.split, streaming=streaming, **named, **options)
    except (KeyError, *_UNREADABLE) as error:  # of an unknown split the message lists those there are
        raise ValueError(f"cannot load {source.where!r}, split {source.split!r}: {_first_line(error)}") from error
    return _iterate(_encoded(loaded), source.where)


def _encoded(loaded: Any) -> Any:
    """The data set with its sound as it is stored: decoding it in `datasets` would take a library of its own."""
    import datasets

    # Streamed files whose columns are not described come as they are stored.
    for name, kind in (getattr(loaded, "features", None) or {}).items():
        if isinstance(kind, datasets.Audio):
            loaded = loaded.cast_column(name, datasets.Audio(decode=False))
    return loaded


def _iterate(loaded: Iterable[Any], where: str) -> Iterator[dict[str, Any]]:
    import httpx

    try:
        yield from loaded
    except _UNREADABLE as error:
        raise ValueError(f"cannot read {where!r}: {_first_line(error)}") from error
    except httpx.HTTPError as error:  # not an OSError
        raise ConnectionError(f"lost the connection while reading {where!r}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
