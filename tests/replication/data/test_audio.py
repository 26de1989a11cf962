from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly
from transformers import WhisperFeatureExtractor

from replication.data import audio


def tone(rate: int, *, hertz: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def test_a_clip_is_the_same_as_samples_as_bytes_and_as_a_file(tmp_path: Path) -> None:
    samples = np.round(tone(8000) * 12_000).astype(np.int16)
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, 8000)
    forms = [
        {"array": samples, "sampling_rate": 8000}, {"bytes": path.read_bytes(), "path": "elsewhere.wav"},
        {"bytes": None, "path": str(path)}, str(path), path,
    ]  # fmt: skip
    expected = samples / 32768
    for form in forms:
        assert np.allclose(audio.waveform(form, 8000), expected, atol=1e-7)


def test_other_codecs_are_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(16_000), 16_000, format="FLAC")
    assert np.allclose(audio.waveform({"bytes": file.getvalue()}, 16_000), tone(16_000), atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_a_tone_keeps_its_pitch_and_loudness_at_another_rate(rate: int) -> None:
    found = audio.waveform({"array": tone(rate), "sampling_rate": rate}, 16_000)
    assert len(found) == pytest.approx(8000, abs=1)
    middle = slice(500, 7500)  # the filter rings at the ends
    assert np.abs(found[: len(tone(16_000))] - tone(16_000)[: len(found)])[middle].max() < 0.01


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([np.full(100, 0.5), np.full(100, -0.1)], axis=1)
    soundfile.write(tmp_path / "two.wav", both, 16_000, subtype="FLOAT")
    assert np.allclose(audio.waveform(tmp_path / "two.wav", 16_000), 0.2)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"bytes": b"no sound"}, "cannot read sound"), ({"bytes": None, "path": None}, "neither array, bytes nor path"),
        (3, "audio is a int"), ({"array": np.zeros(0), "sampling_rate": 8000}, "shape"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(broken: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        audio.waveform(broken, 16_000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.wav"):
        audio.waveform({"path": str(tmp_path / "absent.wav")}, 16_000)


def test_a_clip_longer_than_the_model_hears_is_refused() -> None:
    short = WhisperFeatureExtractor(chunk_length=1)
    with pytest.raises(ValueError, match=r"'long' lasts 1\.50 s and the model hears 1 s"):
        audio.log_mel(short, {"array": tone(16_000, seconds=1.5), "sampling_rate": 16_000}, name="long")


def test_a_clip_that_is_cut_has_the_features_of_its_beginning() -> None:
    short = WhisperFeatureExtractor(chunk_length=1)
    sounds = [{"array": tone(16_000, seconds=length), "sampling_rate": 16_000} for length in (1.0, 1.5)]
    whole, cut = (audio.log_mel(short, sound, name="x", cut=True) for sound in sounds)
    assert whole.shape == cut.shape == (80, 100)
    assert np.allclose(whole, cut, atol=1e-6)


def plain_log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Whisper's front end written down anew: 30 s, windows of 400 every 160 samples, ten logarithms under the peak."""
    padded = np.zeros(480_000)
    padded[: len(samples)] = samples
    padded = np.pad(padded, 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:3000]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    found = np.log10(np.maximum(filters @ power.T, 1e-10))
    return (np.maximum(found, found.max() - 8) + 4) / 4


@pytest.mark.parametrize("name", ["fsdd", "jfk"])
def test_features_equal_a_log_mel_written_down_anew(shared_data: Path, name: str) -> None:
    filters = np.load(shared_data / "tokenizers" / "whisper_mel_filters.npz")["mel_80"]
    if name == "jfk":
        sound: object = shared_data / "speech" / "jfk.wav"
        samples, rate = soundfile.read(shared_data / "speech" / "jfk.wav")
        assert rate == 16_000
    else:
        with tarfile.open(shared_data / "speech" / "fsdd_recordings.tar") as archive:
            file = archive.extractfile("7_theo_3.wav")
            assert file is not None
            content = file.read()
        sound = {"bytes": content}
        samples, rate = soundfile.read(io.BytesIO(content))
        assert rate == 8000
        samples = resample_poly(samples, 2, 1)
    found = audio.log_mel(WhisperFeatureExtractor(), sound, name=name)
    assert found.shape == (80, 3000)
    assert found.dtype == np.float32
    assert np.abs(found - plain_log_mel(samples, filters)).max() < 1e-4
