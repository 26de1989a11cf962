"""Synthetic voices that say digits: harmonics of a pitch under moving resonances, and bands of noise.

Stands in for recorded speech where there is none. A word is a chain of sounds: a vowel is three resonances (Peterson
and Barney's means of men, 1952), a consonant weaker resonances or a band of noise, and the resonances glide from sound
to sound. Harmonic k of pitch f has amplitude

    1 / k  *  product over resonances F with width b of  1 / sqrt((1 - (k f / F)^2)^2 + (k f b / F^2)^2)

A voice has its own pitch, length of the vocal tract (a factor on all resonances), tempo, breath, accent (a factor on
the resonances of every sound), dialect (vowels that have moved towards their neighbours, as in a chain shift), and
microphone (the band that it lets through); a take varies pitch, tempo, loudness and resonances a little. It is no good
speech. It is enough that voices differ in what tells speakers apart, and that a recogniser of three errs on a fourth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, sosfilt

from replication import seeding

RATE = 8000
FRAME = 40  # samples between two values of the resonances: 5 ms
WIDTHS = np.array([70.0, 100.0, 140.0])  # of the resonances, Hz
TOP = 3800.0  # harmonics above are left out


@dataclass(frozen=True)
class Sound:
    """Resonances in Hz, length in seconds, loudness of the voice, and a band of noise (low, high, loudness)."""

    resonances: tuple[float, float, float]
    seconds: float
    voice: float = 1.0
    noise: tuple[float, float, float] | None = None


SOUNDS: dict[str, Sound] = {
    "iy": Sound((270, 2290, 3010), 0.13),
    "ih": Sound((390, 1990, 2550), 0.08),
    "eh": Sound((530, 1840, 2480), 0.09),
    "ah": Sound((640, 1190, 2390), 0.09),
    "aa": Sound((730, 1090, 2440), 0.10),
    "ao": Sound((570, 840, 2410), 0.13),
    "ow": Sound((450, 950, 2300), 0.10),
    "uh": Sound((440, 1020, 2240), 0.06),
    "uw": Sound((300, 870, 2240), 0.15),
    "w": Sound((290, 610, 2150), 0.06, 0.5),
    "r": Sound((310, 1060, 1380), 0.07, 0.5),
    "n": Sound((280, 1700, 2600), 0.08, 0.25),
    "v": Sound((300, 1100, 2300), 0.05, 0.25, (1200, 3800, 0.05)),
    "z": Sound((300, 1500, 2500), 0.08, 0.15, (2700, 3900, 0.20)),
    "s": Sound((400, 1700, 2600), 0.11, 0.0, (2800, 3900, 0.35)),
    "f": Sound((400, 1100, 2300), 0.09, 0.0, (1200, 3800, 0.10)),
    "th": Sound((400, 1400, 2500), 0.08, 0.0, (1400, 3800, 0.06)),
    "-": Sound((400, 1500, 2500), 0.05, 0.0),
    "t": Sound((400, 1800, 2600), 0.03, 0.0, (2200, 3900, 0.45)),
    "k": Sound((400, 1800, 2500), 0.03, 0.0, (1100, 2400, 0.45)),
}
WORDS = {
    "zero": "z ih r ow uh",
    "one": "w ah n",
    "two": "- t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f aa ih v",
    "six": "s ih - k s",
    "seven": "s eh v ah n",
    "eight": "eh iy - t",
    "nine": "n aa ih n",
}
# Where each vowel has moved to in the dialect.
NEIGHBOURS = {
    "iy": "ih",
    "ih": "eh",
    "eh": "ah",
    "ah": "ao",
    "aa": "eh",
    "ao": "uw",
    "uw": "ih",
    "ow": "aa",
}


@dataclass(frozen=True)
class Voice:
    """Pitch in Hz, factors on the resonances and on all lengths, loudness of breath, how strong accent and dialect are.

    `accent` is the standard deviation of its factors' logarithms, `dialect` the share of the way to the neighbour, and
    `band` what the microphone lets through, in Hz.
    """

    pitch: float
    tract: float
    tempo: float
    breath: float
    accent: float
    dialect: float = 0.0
    band: tuple[float, float] = (60.0, 3900.0)


# Three voices alike to learn from; two that lie further out to adapt to; one beyond on the other side.
SPEAKERS = {
    "anna": Voice(125, 0.97, 1.00, 0.02, 0.02),
    "bruno": Voice(110, 1.00, 0.90, 0.01, 0.02),
    "clara": Voice(145, 1.05, 1.10, 0.03, 0.02),
    "david": Voice(205, 1.22, 0.80, 0.10, 0.10, 1.0, (600, 1800)),
    "emma": Voice(225, 1.18, 1.25, 0.08, 0.10, 1.0, (800, 2400)),
    "felix": Voice(90, 0.84, 1.15, 0.08, 0.10, 1.0, (500, 2000)),
}
VOICES = tuple(SPEAKERS)


def spoken(word: str, speaker: str, index: int) -> np.ndarray:
    """One take of a digit word by a voice, int16 (samples,); the same on every call."""
    voice = SPEAKERS[speaker]
    rng = seeding.generator(0, "take", word, speaker, index)
    names = WORDS[word].split()
    tempo = voice.tempo * rng.uniform(0.85, 1.2)
    lengths = [max(2, round(SOUNDS[name].seconds * tempo * rng.uniform(0.8, 1.25) * RATE / FRAME)) for name in names]
    resonances = np.array([_resonances(name, speaker, rng) for name in names])
    voiced = _voiced(_glides(resonances, lengths), _steps([SOUNDS[n].voice for n in names], lengths), voice, rng)
    samples = voiced + _noise(names, lengths, rng) + voice.breath * 0.2 * rng.normal(size=len(voiced))
    samples = sosfilt(butter(2, voice.band, btype="band", fs=RATE, output="sos"), samples)
    samples *= 10 ** rng.uniform(-0.3, 0.0) * 12_000 / np.abs(samples).max()
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def _resonances(name: str, speaker: str, rng: np.random.Generator) -> np.ndarray:
    """Resonances of a sound in a voice's accent, moved by 3 % in this take."""
    voice = SPEAKERS[speaker]
    accent = np.exp(voice.accent * seeding.generator(0, "accent", speaker, name).normal(size=3))
    moved = SOUNDS[NEIGHBOURS.get(name, name)].resonances
    own = (1 - voice.dialect) * np.array(SOUNDS[name].resonances) + voice.dialect * np.array(moved)
    return own * voice.tract * accent * np.exp(0.03 * rng.normal(size=3))


def _glides(values: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Values that run straight from the middle of a sound to that of the next, (frames, 3)."""
    ends = np.cumsum(lengths)
    middles = ends - np.array(lengths) / 2
    frames = np.arange(ends[-1])
    return np.stack([np.interp(frames, middles, column) for column in values.T], axis=1)


def _steps(values: list[float], lengths: list[int]) -> np.ndarray:
    """Values held through every sound, with edges rounded over five frames, (frames,)."""
    held = np.repeat(values, lengths)
    return np.convolve(np.pad(held, 2, mode="edge"), np.full(5, 0.2), mode="valid")


def _voiced(resonances: np.ndarray, loudness: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Harmonics under the resonances, (samples,)."""
    frames = len(loudness)
    pitch = voice.pitch * rng.uniform(0.92, 1.08) * np.linspace(1.08, 0.90, frames)
    orders = np.arange(1, int(TOP / pitch.max()) + 1)
    at = pitch[:, None] * orders  # (frames, harmonics)
    gains = np.ones_like(at) / orders
    for i, width in enumerate(WIDTHS):
        ratio = at / resonances[:, i : i + 1]
        gains /= np.sqrt((1 - ratio**2) ** 2 + (at * width / resonances[:, i : i + 1] ** 2) ** 2)
    gains *= loudness[:, None] / np.sqrt((gains**2).sum(1, keepdims=True)).mean()
    phase = 2 * np.pi * np.cumsum(np.repeat(pitch, FRAME)) / RATE
    return (np.repeat(gains, FRAME, axis=0) * np.sin(phase[:, None] * orders)).sum(1)


def _noise(names: list[str], lengths: list[int], rng: np.random.Generator) -> np.ndarray:
    """The bands of noise of the sounds that have one, (samples,)."""
    pieces = []
    for name, length in zip(names, lengths, strict=True):
        white, band = rng.normal(size=length * FRAME), SOUNDS[name].noise
        if band is None:
            pieces.append(np.zeros(len(white)))
        else:
            low, high, loudness = band
            shape = butter(2, (low, min(high, RATE / 2 - 50)), btype="band", fs=RATE, output="sos")
            pieces.append(6 * loudness * sosfilt(shape, white) * np.hanning(len(white)) ** 0.5)
    return np.concatenate(pieces)
