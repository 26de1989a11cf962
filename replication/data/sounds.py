"""A local folder of recordings with their transcripts, as rows {"id", "text", "audio": {"path"}}.

    metadata.csv or .jsonl   columns file_name and text, as the hub's audio folders have them; others are kept
    metadata.csv             LJSpeech's: no header, "|" between name, text, and the text with numbers spelled out
    x.wav beside x.txt       any depth

The first of these that fits, in the folder of the split where there is one (train/, test/, ...). A folder without such
is "train" and nothing else, or a study would be tested on what it was trained on. LJSpeech's quotation marks are text;
its third column is the transcript where it has one. Standard library only.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOUND = (".wav", ".flac", ".ogg", ".mp3", ".opus")


def is_sound_folder(folder: Path) -> bool:
    """Whether a folder holds recordings, at any depth."""
    return folder.is_dir() and any(path.suffix.lower() in SOUND for path in folder.rglob("*"))


def rows(folder: Path, split: str = "train") -> Iterator[dict[str, Any]]:
    """Rows of a folder of recordings, in the order of its list, else by name.

    Raises:
        FileNotFoundError: a recording that the list names, or a transcript, is not there.
        ValueError: the list lacks a column, or the folder has no such split.
    """
    folder = _of_split(folder, split)
    listed = [folder / name for name in ("metadata.jsonl", "metadata.csv") if (folder / name).is_file()]
    if not listed:
        yield from _pairs(folder)
    elif listed[0].suffix == ".jsonl":
        yield from _hub(
            folder, (json.loads(line) for line in listed[0].read_text("utf-8").splitlines() if line.strip())
        )
    elif "|" in listed[0].read_text(encoding="utf-8").split("\n", 1)[0]:
        yield from _ljspeech(folder, listed[0])
    else:
        with listed[0].open(newline="", encoding="utf-8") as file:
            yield from _hub(folder, csv.DictReader(file))


def _of_split(folder: Path, split: str) -> Path:
    """The folder of a split; all of a folder that has none is "train"."""
    if (folder / split).is_dir():
        return folder / split
    inner = sorted(path.name for path in folder.iterdir() if is_sound_folder(path))
    if split == "train" and not {"test", "validation", "dev"} & set(inner):
        return folder
    raise ValueError(
        f"the recordings in {folder} have no split {split!r} ({inner or 'no folders'}); make it a folder, or "
        "name one folder for each"
    )


def _hub(folder: Path, listed: Iterator[dict[str, Any]] | csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    for i, row in enumerate(listed):
        if "file_name" not in row:
            raise ValueError(f"row {i} of the metadata in {folder} has no file_name; it has {sorted(row)}")
        rest = {key: value for key, value in row.items() if key != "file_name"}
        yield {"id": row["file_name"], "audio": _sound(folder / row["file_name"])} | rest


def _ljspeech(folder: Path, listed: Path) -> Iterator[dict[str, Any]]:
    with listed.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE), start=1):
            if not row:
                continue
            if len(row) < 2:
                raise ValueError(f"line {number} of {listed} has no text: {row[0]!r}; expected name|text")
            text = row[2] if len(row) > 2 and row[2].strip() else row[1]
            found = _sound(folder / "wavs" / f"{row[0]}.wav")
            yield {"id": row[0], "text": text, "audio": found}


def _pairs(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND):
        written = path.with_suffix(".txt")
        if not written.is_file():
            raise FileNotFoundError(
                f"{path} has no transcript: neither {written.name} beside it nor a metadata.csv or metadata.jsonl in "
                f"{folder}"
            )
        yield {
            "id": str(path.relative_to(folder)),
            "text": written.read_text(encoding="utf-8").strip(),
            "audio": _sound(path),
        }


def _sound(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(f"no recording at {path}, which the metadata beside it names")
    return {"path": str(path)}
