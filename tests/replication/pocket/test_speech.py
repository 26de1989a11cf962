from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from replication.pocket import recordings, speech, voices

KINDS = ("recorded", "synthetic")
PARTS = ("train", "valid", "test", "test_unseen", "test_source", "source")


def rows_of(kind: str, part: str) -> list[speech.Row]:
    found: Callable[[], list[speech.Row]] = getattr(speech, f"{kind}_{part}")
    return found()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Recorded clips where there are any, and synthetic ones of fewer takes, which take a while to make."""
    if request.param == "recorded" and recordings.recordings() is None:
        pytest.skip("no recordings of spoken digits on this machine")
    if request.param == "synthetic":
        few = {name: _few(name) for name in voices.VOICES}
        monkeypatch.setitem(speech._TAKES, "synthetic", lambda name: few[name])
        monkeypatch.setattr(speech, "SOURCE_CLIPS", 60)
        monkeypatch.setattr(speech, "CLIPS", {"train": 30, "valid": 30, "test": 30})
        speech._clips.cache_clear()
    return str(request.param)


@functools.cache
def _few(name: str) -> list[speech.Take]:
    return [
        speech.Take(digit, name, index, voices.spoken(word, name, index))
        for digit, word in enumerate(speech.DIGITS)
        for index in (0, 1, 6, 20, 21)
    ]


def test_clips_hold_two_to_four_digits_within_what_is_heard(kind: str) -> None:
    for part in PARTS:
        rows = rows_of(kind, part)
        assert len({row["id"] for row in rows}) == len(rows)
        lengths = collections.Counter(len(row["text"].split()) for row in rows)
        assert set(lengths) == {2, 3, 4}
        assert {word for row in rows for word in row["text"].split()} == set(speech.DIGITS)
        for row in rows:
            samples = row["audio"]["array"]
            assert samples.dtype == np.int16
            assert 0.25 * speech.RATE < len(samples) <= speech.SECONDS * speech.RATE
            assert np.abs(samples).max() > 100


def test_parts_share_no_speaker_and_splits_no_take(kind: str) -> None:
    speakers = {part: {row["speaker"] for row in rows_of(kind, part)} for part in PARTS}
    assert [len(speakers[part]) for part in PARTS] == [2, 2, 2, 1, 3, 3]
    assert speakers["train"] == speakers["valid"] == speakers["test"]
    assert speakers["source"] == speakers["test_source"]
    assert not speakers["train"] & speakers["source"]
    assert not speakers["test_unseen"] & (speakers["train"] | speakers["source"])
    for name in speakers["train"]:
        takes = speech._TAKES[kind](name)
        for split in ("train", "valid", "test"):
            indices = {take.index for take in takes if take.split == split}
            assert indices <= {"test": set(range(5)), "valid": set(range(5, 10)), "train": set(range(10, 50))}[split]


def test_clips_are_the_same_on_every_call(kind: str) -> None:
    first = rows_of(kind, "test")
    speech._clips.cache_clear()
    again = rows_of(kind, "test")
    assert [row["text"] for row in first] == [row["text"] for row in again]
    assert all(np.array_equal(a["audio"]["array"], b["audio"]["array"]) for a, b in zip(first, again, strict=True))


def test_a_clip_is_its_takes_with_silence_between(kind: str) -> None:
    row = rows_of(kind, "test")[0]
    takes = [take for take in speech._TAKES[kind](row["speaker"]) if take.split == "test"]
    rest = row["audio"]["array"]
    for word in row["text"].split():
        rest = rest[np.flatnonzero(rest)[0] :]
        own = [np.trim_zeros(take.samples, "f") for take in takes if speech.DIGITS[take.digit] == word]
        fits = [samples for samples in own if np.array_equal(rest[: len(samples)], samples)]
        assert fits, f"no test take of {word!r} is heard in its place"
        rest = rest[len(fits[0]) :]
    assert not rest.any()


def test_official_splits_of_the_recordings(shared_data: Path) -> None:
    assert shared_data.is_dir()
    takes = speech.recorded_takes()
    assert len(takes) == 3000
    counts = collections.Counter(take.split for take in takes)
    assert counts == {"test": 300, "valid": 300, "train": 2400}


def test_recordings_are_looked_for_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "ROOT", tmp_path / "checkout")
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "named"))
    assert recordings.recordings() is None
    places = [tmp_path / "shared" / "data", tmp_path / "checkout" / "data", tmp_path / "named"]
    for place in places:  # each comes before the ones that were found until now
        file = place / "speech" / "fsdd_recordings.tar"
        file.parent.mkdir(parents=True)
        file.touch()
        assert recordings.recordings() == file
    monkeypatch.delenv("REPLICATION_DATA")
    assert recordings.recordings() == places[1] / "speech" / "fsdd_recordings.tar"


def test_absent_recordings_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "recordings", lambda: None)
    speech.recorded_takes.cache_clear()
    with pytest.raises(FileNotFoundError, match="name the folder .* in REPLICATION_DATA"):
        speech.recorded_takes()


def pitch(samples: np.ndarray) -> float:
    """Hertz of the strongest period between 70 and 300 Hz."""
    own = samples.astype(float)
    kept = np.correlate(own, own, "full")[len(own) - 1 :]
    return voices.RATE / (int(kept[voices.RATE // 300 : voices.RATE // 70].argmax()) + voices.RATE // 300)


def test_a_voice_has_its_own_pitch() -> None:
    for name in ("bruno", "anna", "emma"):
        heard = [pitch(voices.spoken("one", name, index)) for index in range(7)]
        assert np.median(heard) == pytest.approx(voices.SPEAKERS[name].pitch, rel=0.15)


def test_a_sound_of_noise_is_high_and_a_vowel_is_low() -> None:
    samples = voices.spoken("six", "anna", 0).astype(float)
    power = np.abs(np.fft.rfft(samples[: len(samples) // 6])) ** 2  # the first sound, s
    hertz = np.fft.rfftfreq(len(samples) // 6, 1 / voices.RATE)
    assert power[hertz > 2500].sum() > 5 * power[hertz < 1500].sum()
    samples = voices.spoken("four", "anna", 0).astype(float)[1500:]
    power, hertz = np.abs(np.fft.rfft(samples)) ** 2, np.fft.rfftfreq(len(samples), 1 / voices.RATE)
    assert power[hertz < 1500].sum() > 5 * power[hertz > 2500].sum()
