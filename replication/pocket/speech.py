"""Spoken digits: short clips of two to four digits by one speaker, recorded or made, and a recogniser of them.

    takes        one digit spoken once: recordings of six speakers, or synthetic voices (`voices.py`)
    clips        takes of one speaker after another, with short gaps, never longer than the recogniser hears
    parts        three speakers teach the recogniser (source), two are what it is adapted to, one is never trained on

So a model meets words it knows from speakers it does not, which is what adapting a recogniser mostly is, and its
errors are substitutions, insertions and deletions. As in the data set's official split, takes 0 to 4 of every digit and
speaker are for tests; takes 5 to 9 are for validation here, the others for training. A clip holds takes of one split
only. Takes recur in several clips, so clips of one split are not independent of each other.

Rows: {"id", "text", "speaker", "audio": {"array": int16 (samples,), "sampling_rate": 8000}}.
"""

from __future__ import annotations

import functools
import io
import tarfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from replication import seeding
from replication.pocket import recogniser, voices
from replication.pocket.recordings import recordings

RATE = 8000
SECONDS = 3.0  # what the recogniser hears at once
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GAP = (0.02, 0.10)  # seconds of silence between two digits
LONGEST = 1.2  # seconds; the few longer takes are mostly silence, and two of them would fill a clip

Part = Literal["source", "adapted", "unseen"]
Split = Literal["train", "valid", "test"]
RECORDED: dict[Part, tuple[str, ...]] = {
    "source": ("george", "jackson", "lucas"),
    "adapted": ("nicolas", "yweweler"),
    "unseen": ("theo",),
}
SYNTHETIC: dict[Part, tuple[str, ...]] = {
    "source": voices.VOICES[:3],
    "adapted": voices.VOICES[3:5],
    "unseen": voices.VOICES[5:6],
}
CLIPS: dict[Split, int] = {"train": 480, "valid": 96, "test": 200}
SOURCE_CLIPS = 1500

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Take:
    """One digit spoken once. samples int16 (n,) at `RATE`."""

    digit: int
    speaker: str
    index: int
    samples: np.ndarray

    @property
    def split(self) -> Split:
        """The official split, with a part of train set aside for validation."""
        return "test" if self.index < 5 else "valid" if self.index < 10 else "train"


def recorded_train() -> list[Row]:
    """Training clips of the speakers that the recogniser is adapted to."""
    return _recorded("adapted", "train")


def recorded_valid() -> list[Row]:
    """Validation clips of the same speakers, from other takes."""
    return _recorded("adapted", "valid")


def recorded_test() -> list[Row]:
    """Test clips of the same speakers, from the official test takes."""
    return _recorded("adapted", "test")


def recorded_test_unseen() -> list[Row]:
    """Test clips of a speaker of whom nothing is ever trained on."""
    return _recorded("unseen", "test")


def recorded_test_source() -> list[Row]:
    """Test clips of the speakers that the recogniser was made from."""
    return _recorded("source", "test")


def recorded_source() -> list[Row]:
    """The clips that the recogniser is made from."""
    return _recorded("source", "train")


def synthetic_train() -> list[Row]:
    """Training clips of the synthetic voices that the recogniser is adapted to."""
    return _synthetic("adapted", "train")


def synthetic_valid() -> list[Row]:
    """Validation clips of the same voices, from other takes."""
    return _synthetic("adapted", "valid")


def synthetic_test() -> list[Row]:
    """Test clips of the same voices."""
    return _synthetic("adapted", "test")


def synthetic_test_unseen() -> list[Row]:
    """Test clips of a synthetic voice of which nothing is ever trained on."""
    return _synthetic("unseen", "test")


def synthetic_test_source() -> list[Row]:
    """Test clips of the synthetic voices that the recogniser was made from."""
    return _synthetic("source", "test")


def synthetic_source() -> list[Row]:
    """The synthetic clips that the recogniser is made from."""
    return _synthetic("source", "train")


def recorded_base() -> Path:
    """A recogniser made from the recorded source clips, as a folder in the hub's layout; made once, then kept."""
    return recogniser.made("recorded", recorded_source, DIGITS, recogniser.Recipe())


def synthetic_base() -> Path:
    """A recogniser made from the synthetic source clips."""
    return recogniser.made("synthetic", synthetic_source, DIGITS, recogniser.Recipe())


# ---------------------------------------------------------------- takes


@functools.cache
def recorded_takes() -> tuple[Take, ...]:
    """All recordings, by name.

    Raises:
        FileNotFoundError: they are not on this machine.
    """
    found = recordings()
    if found is None:
        raise FileNotFoundError(
            "no recordings of spoken digits: name the folder that holds speech/fsdd_recordings.tar in "
            "REPLICATION_DATA, or use the synthetic clips"
        )
    return tuple(sorted(_read(found), key=lambda take: (take.speaker, take.digit, take.index)))


def _read(tar: Path) -> Iterator[Take]:
    """Takes named {digit}_{speaker}_{index}.wav, 16 bits at `RATE`."""
    with tarfile.open(tar) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".wav"):
                continue
            digit, speaker, index = Path(member.name).stem.split("_")
            with wave.open(io.BytesIO(file.read())) as clip:
                samples = np.frombuffer(clip.readframes(clip.getnframes()), dtype="<i2")
            yield Take(int(digit), speaker, int(index), samples)


@functools.cache
def synthetic_takes(speaker: str) -> tuple[Take, ...]:
    """Fifty takes of every digit by one synthetic voice."""
    return tuple(
        Take(digit, speaker, index, voices.spoken(word, speaker, index))
        for digit, word in enumerate(DIGITS)
        for index in range(50)
    )


# ---------------------------------------------------------------- clips


def _recorded(part: Part, split: Split) -> list[Row]:
    return _clips("recorded", RECORDED[part], split, count=_count(part, split))


def _synthetic(part: Part, split: Split) -> list[Row]:
    return _clips("synthetic", SYNTHETIC[part], split, count=_count(part, split))


def _count(part: Part, split: Split) -> int:
    return SOURCE_CLIPS if (part, split) == ("source", "train") else CLIPS[split]


_TAKES: dict[str, Callable[[str], list[Take]]] = {
    "recorded": lambda speaker: [take for take in recorded_takes() if take.speaker == speaker],
    "synthetic": lambda speaker: list(synthetic_takes(speaker)),
}


@functools.lru_cache(maxsize=4)
def _clips(kind: str, speakers: tuple[str, ...], split: Split, *, count: int) -> list[Row]:
    """`count` clips, the speakers in turn; every speaker's takes come up equally often, in shuffled order."""
    rng = seeding.generator(0, "clips", kind, *speakers, split)
    decks = {speaker: _deck(kind, speaker, split, rng) for speaker in speakers}
    rows = []
    for i in range(count):
        speaker = speakers[i % len(speakers)]
        audio, text = _clip(decks[speaker], rng)
        rows.append({"id": f"{speaker}-{split}-{i}", "text": text, "speaker": speaker, "audio": audio})
    return rows


def _deck(kind: str, speaker: str, split: Split, rng: np.random.Generator) -> Iterator[Take]:
    takes = [t for t in _TAKES[kind](speaker) if t.split == split and len(t.samples) <= LONGEST * RATE]
    while True:
        yield from (takes[i] for i in rng.permutation(len(takes)))


def _clip(deck: Iterator[Take], rng: np.random.Generator) -> tuple[dict[str, Any], str]:
    """Two to four takes with gaps between them, fewer where the next would not fit."""
    pieces: list[np.ndarray] = []
    words: list[str] = []
    for _ in range(int(rng.integers(2, 5))):
        take = next(deck)
        gap = np.zeros(int(rng.uniform(*GAP) * RATE), dtype=np.int16)
        if sum(map(len, pieces)) + len(gap) + len(take.samples) > SECONDS * RATE:
            break
        pieces += [gap, take.samples]
        words.append(DIGITS[take.digit])
    return {"array": np.concatenate(pieces), "sampling_rate": RATE}, " ".join(words)
