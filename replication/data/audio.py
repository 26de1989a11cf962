"""Sound as a recogniser hears it: one channel at its own rate, and the features that its own extractor makes.

    column "audio"   {"array", "sampling_rate"}   decoded
                     {"bytes"} or {"path"}        a file, as the hub stores it; read by soundfile (wav, flac, ogg, mp3)
                     "clips/a.wav"                a path

Channels are averaged. Rates are changed by a polyphase filter (scipy's, a Kaiser window of beta 5), the rates' greatest
common divisor taken out: 8 to 16 kHz is 2 / 1, 22.05 to 16 kHz is 320 / 441.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly


class TooLong(ValueError):
    """A clip is longer than a model hears, or its transcript than it writes; the message names it."""


def waveform(audio: Any, rate: int) -> np.ndarray:
    """Samples of an audio column's value at `rate` hertz, float32 in [-1, 1], shape (samples,).

    Raises:
        ValueError: it is not audio, or has no samples.
        FileNotFoundError: its file is not there.
    """
    samples, own = _decoded(audio)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"audio of shape {samples.shape}; expected samples, or samples by channels")
    if own != rate:
        common = math.gcd(own, rate)
        samples = resample_poly(samples, rate // common, own // common)
    return samples.astype(np.float32)


def log_mel(extractor: Any, audio: Any, *, name: str, cut: bool = False) -> np.ndarray:
    """Features of one clip as the model's extractor makes them, float32 (bands, frames), padded with silence.

    Args:
        cut: make them of as much of a longer clip as the model hears.

    Raises:
        TooLong: the clip is longer than that, and not to be cut.
    """
    samples = waveform(audio, extractor.sampling_rate)
    if len(samples) > extractor.n_samples and not cut:
        raise TooLong(
            f"clip {name!r} lasts {len(samples) / extractor.sampling_rate:.2f} s and the model hears "
            f"{extractor.chunk_length} s at once; cut it, or leave it out"
        )
    made = extractor(samples[: extractor.n_samples], sampling_rate=extractor.sampling_rate, return_tensors="np")
    return made["input_features"][0].astype(np.float32)


def seconds(audio: Any) -> float:
    """How long a clip lasts."""
    samples, rate = _decoded(audio)
    return len(samples) / rate


def _decoded(audio: Any) -> tuple[np.ndarray, int]:
    """Samples in [-1, 1], maybe by channels, and their rate."""
    if isinstance(audio, str | Path):
        return _read(Path(audio))
    if not isinstance(audio, dict):
        raise ValueError(
            f"audio is a {type(audio).__name__}; expected a path, or a dict as the hub's Audio column gives"
        )
    if audio.get("array") is not None:
        return _scaled(np.asarray(audio["array"])), int(audio["sampling_rate"])
    if audio.get("bytes") is not None:
        return _read(io.BytesIO(audio["bytes"]))
    if audio.get("path"):
        return _read(Path(audio["path"]))
    raise ValueError(f"audio has neither array, bytes nor path; it has {sorted(audio)}")


def _read(file: Any) -> tuple[np.ndarray, int]:
    import soundfile

    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(f"no sound file at {str(file)!r}")
    try:
        samples, rate = soundfile.read(file, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot read sound of {file}: {error}") from error
    return samples, int(rate)


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Whole numbers over their type's range; floats as they are."""
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float32) / (np.iinfo(samples.dtype).max + 1)
    return samples.astype(np.float32)
