"""Tiny random Whispers as folders in the hub's layout, and clips for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from replication.pocket import recogniser
from replication.pocket.recogniser import Recipe

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
# A second of sound, 16 bands; weights so large that transcripts differ from clip to clip.
RECIPE = Recipe(width=16, encoder=1, decoder=2, heads=2, bands=16, seconds=1, positions=32, spread=0.8, first=0.5)
# The vocabulary: 0 to 7 words, 8 and 9 languages, 10 a task, 11 end-of-text, 12 start, 13 unknown, 14 no timestamps.
LANGUAGES, TASK = {"<|en|>": 8, "<|hi|>": 9}, {"transcribe": 10}
END, START, PLAIN = 11, 12, 14


def save(folder: Path, *, seed: int = 0, **generation: Any) -> Path:
    """A random model that hears one second; `generation` changes its generation configuration."""
    recipe = Recipe(**{**vars(RECIPE), "seed": seed})
    words = (*WORDS, "<|en|>", "<|hi|>", "<|transcribe|>")
    recogniser.save(folder, recogniser.new_model(words, recipe).eval(), words, recipe)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | generation))
    return folder


def english(folder: Path) -> Path:
    """A model of one language that may not write three of its tokens; chosen because its transcripts end."""
    return save(folder, seed=30, suppress_tokens=[12, 13, 14])


def multilingual(folder: Path) -> Path:
    """A model that is told language and task, and may not write three of its tokens; chosen as the other."""
    return save(
        folder, seed=30, is_multilingual=True, lang_to_id=LANGUAGES, task_to_id=TASK, suppress_tokens=[12, 13, 14, 8],
        begin_suppress_tokens=[11, 3],
    )  # fmt: skip


def clips(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of one to four words over a second of tones at 8 kHz."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        said = rng.integers(len(WORDS), size=int(rng.integers(1, 5)))
        time = np.arange(1600) / 8000
        tones = [np.sin(2 * np.pi * (300 + 300 * k) * time) * np.hanning(1600) for k in said]
        sound = np.concatenate(tones) + 0.02 * rng.normal(size=1600 * len(said))
        audio = {"array": (8000 * sound).astype(np.int16), "sampling_rate": 8000}
        rows.append({"id": f"clip{i}", "text": " ".join(WORDS[k] for k in said), "audio": audio})
    return rows


def train() -> list[dict[str, Any]]:
    """Rows for a "python:" source."""
    return clips(12)


def test() -> list[dict[str, Any]]:
    """Other rows."""
    return clips(10, seed=1)
