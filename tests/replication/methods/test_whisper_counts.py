"""Trained numbers of every method on Whisper's real sizes, against formulas worked out by hand; no weight is made."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from replication.config import BitFit, LoRA, Method, S2LoRA, VeRA
from replication.methods import attach
from tests.replication.methods import pieces

SIZES = {"tiny": (384, 4), "base": (512, 6), "small": (768, 12), "medium": (1024, 24), "large-v2": (1280, 32)}
QV, QKVO = "q_proj+v_proj", "attention"

# sharing: r (sum over shapes of in + out) + r matrices. Attention is d x d: 2 d r + r matrices; a layer of the encoder
# has one attention and one of the decoder two, so q and v make 6 matrices a layer, q, k, v and o make 12.
# All linears of small, r = 8: 8 (1536 + 3840 + 3840) + 8 x 192.
SHARED = [
    ("tiny", QV, 8, 6_336),
    ("tiny", QKVO, 32, 26_112),
    ("base", QV, 16, 16_960),
    ("small", QV, 32, 51_456),
    ("small", QKVO, 32, 53_760),
    ("small", "all", 8, 75_264),
    ("small", "all", 32, 301_056),
    ("medium", QKVO, 64, 149_504),
    ("large-v2", QV, 32, 88_064),
]
# r (in + out) for each matrix: 2 d r x 6 a layer for q and v; all linears of tiny: 8 (48 x 768 + 16 x 1920).
APART = [
    ("tiny", QV, 8, 147_456),
    ("tiny", QKVO, 32, 1_179_648),
    ("base", QV, 16, 589_824),
    ("small", QV, 32, 3_538_944),
    ("tiny", "all", 8, 540_672),
    ("large-v2", QV, 32, 15_728_640),
]
BIASES = [("tiny", 38_400), ("base", 75_776), ("small", 224_256), ("medium", 593_920), ("large-v2", 988_160)]


def trained(size: str, method: Method) -> int:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(pieces.whisper(*SIZES[size]))
    return sum(p.numel() for p in attach(model, method, seed=0, steps=10).trainable.values())


@pytest.mark.parametrize(("size", "targets", "rank", "expected"), SHARED)
def test_shared_factors(size: str, targets: str, rank: int, expected: int) -> None:
    assert trained(size, S2LoRA(rank, targets=targets)) == expected


@pytest.mark.parametrize(("size", "targets", "rank", "expected"), APART)
def test_lora(size: str, targets: str, rank: int, expected: int) -> None:
    assert trained(size, LoRA(rank, 2 * rank, targets=targets)) == expected


@pytest.mark.parametrize(("size", "expected"), BIASES)
def test_biases(size: str, expected: int) -> None:
    assert trained(size, BitFit()) == expected


@functools.cache
def _whole(size: str) -> int:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(pieces.whisper(*SIZES[size]))
    return sum(p.numel() for p in model.parameters())


def test_whole_models_have_the_published_numbers_of_weights() -> None:
    # The sizes above are the real ones only if these are; positions of the encoder are stored, the head is tied.
    assert _whole("tiny") == 37_760_640
    assert _whole("small") == 241_734_912


def test_the_share_that_the_abstract_s_readers_report() -> None:
    # "0.02 %" is told of the original second-hand; whisper-small's attention at rank 32 is that.
    assert trained("small", S2LoRA(32, targets=QKVO)) / _whole("small") == pytest.approx(2.2e-4, rel=0.02)


def test_vera() -> None:
    # d of 64 for each of 24 matrices and b of 384: 24 (64 + 384).
    assert trained("tiny", VeRA(64, targets=QV)) == 24 * (64 + 384)
