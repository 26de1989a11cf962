"""The schedules against those of llm-foundry and composer, written a second time here, and against values by hand."""

from __future__ import annotations

import math

import pytest

from replication import config, optim
from replication.config import Cosine, Trapezoid

CPT = Trapezoid(warmup=1000, cooldown=0.2)
IFT = Cosine(warmup=0.1, floor=0.01, whole_steps=True)
# 0.25, 0.5, 1, 2, 4, 8, 16 and 20 billion tokens in batches of 192 x 4,096, and 20 % of each.
CPT_BATCHES = {318: 64, 636: 127, 1272: 254, 2543: 509, 5086: 1017, 10173: 2035, 20345: 4069, 25431: 5086}
IFT_BATCHES = (193, 386, 772, 1544, 3088)


def foundry(t: int, t_max: int, t_cooldown: int, *, t_warmup: int = 1000, t_scale: int = 1000) -> float:
    """llm-foundry's InverseSquareRootWithWarmupScheduler with alpha_f_decay=1 and alpha_f_cooldown=0."""
    alpha_f_decay, alpha_f_cooldown = 1.0, 0.0
    if t < t_warmup:
        return t / t_warmup
    start = max(t_warmup, t_max - t_cooldown)
    decayed = ((min(t, start) - t_warmup + t_scale) / t_scale) ** -0.5
    alpha = alpha_f_decay + decayed * (1 - alpha_f_decay)
    if t < start:
        return alpha
    return alpha + min(1.0, (t - start) / t_cooldown) * (alpha_f_cooldown - alpha)


def composer(t: int, t_max: int) -> float:
    """composer's CosineAnnealingWithWarmupScheduler with t_warmup=0.1dur, which it truncates to whole batches."""
    t_warmup, alpha_f = int(0.1 * t_max), 0.01
    if t < t_warmup:
        return t / t_warmup
    return alpha_f + (1 - alpha_f) * (1 + math.cos(math.pi * (t - t_warmup) / (t_max - t_warmup))) / 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (1, 0.001),
        (500, 0.5),
        (999, 0.999),
        (1000, 1.0),
        (1001, 1.0),
        (20344, 1.0),
        # 25,431 - 5,086: the cooldown starts at the peak and has lost 1/5,086 a step later.
        (20345, 1.0),
        (20346, 5085 / 5086),
        (22888, 0.5),
        (25429, 2 / 5086),
        (25430, 1 / 5086),
    ],
)
def test_the_trapezoid_of_twenty_billion_tokens_has_the_values_worked_out_by_hand(step: int, expected: float) -> None:
    assert optim.factor(CPT, step, 25431) == pytest.approx(expected, abs=1e-15)
    assert foundry(step, 25431, 5086) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("total", "cooldown"), CPT_BATCHES.items())
def test_the_trapezoid_equals_llm_foundry_at_every_knot_and_between(total: int, cooldown: int) -> None:
    knots = {0, 1, 999, 1000, 1001, total - cooldown - 1, total - cooldown, total - cooldown + 1, total - 2, total - 1}
    for step in sorted({k for k in knots if k < total} | set(range(0, total, 37))):
        assert optim.factor(CPT, step, total) == pytest.approx(foundry(step, total, cooldown), abs=1e-12), step


def test_the_two_shortest_lengths_end_inside_the_warm_up_without_a_cooldown() -> None:
    for total, last, at_cooldown in ((318, 0.317, 0.254), (636, 0.635, 0.509)):
        factors = [optim.factor(CPT, step, total) for step in range(total)]
        assert factors == sorted(factors) and factors[-1] == pytest.approx(last)
        # Where the cooldown of 20 % would have started, the rate is a quarter or a half of the peak.
        assert factors[total - CPT_BATCHES[total]] == pytest.approx(at_cooldown)


def test_a_cooldown_that_would_start_inside_the_warm_up_starts_after_it_as_in_llm_foundry() -> None:
    # 1,100 steps, a cooldown of 220: it starts at step 1,000 instead of 880 and gets through 100 of its 220 steps.
    assert optim.factor(CPT, 1000, 1100) == 1.0
    assert optim.factor(CPT, 1099, 1100) == pytest.approx(1 - 99 / 220)
    for step in range(1100):
        assert optim.factor(CPT, step, 1100) == pytest.approx(foundry(step, 1100, 220), abs=1e-12)


def test_the_cooldown_of_each_length_is_a_fifth_of_its_batches() -> None:
    lengths = (0.25, 0.5, 1, 2, 4, 8, 16, 20)
    assert [round(length * 1e9 / 786_432) for length in lengths] == list(CPT_BATCHES)
    assert [round(0.2 * total) for total in CPT_BATCHES] == list(CPT_BATCHES.values())


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        # .1 of 193 batches is 19.3, of which composer takes 19.
        (18, 18 / 19),
        (19, 1.0),
        # Half of the remaining 174: .01 + .99 / 2.
        (106, 0.505),
        # The last of 174: .01 + .99 (1 + cos(173 pi / 174)) / 2.
        (192, 0.010080679),
    ],
)
def test_the_cosine_of_one_epoch_has_the_values_worked_out_by_hand(step: int, expected: float) -> None:
    assert optim.factor(IFT, step, 193) == pytest.approx(expected, abs=1e-9)
    assert composer(step, 193) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("total", IFT_BATCHES)
def test_the_cosine_equals_composer_at_every_step(total: int) -> None:
    warmup = {193: 19, 386: 38, 772: 77, 1544: 154, 3088: 308}[total]
    assert optim.factor(IFT, warmup - 1, total) == (warmup - 1) / warmup
    assert optim.factor(IFT, warmup, total) == 1.0
    for step in range(total):
        assert optim.factor(IFT, step, total) == pytest.approx(composer(step, total), abs=1e-12), step


def test_runs_made_before_whole_steps_keep_their_warm_up_and_their_digest() -> None:
    old = Cosine()
    assert optim.factor(old, 19, 193) == pytest.approx(19 / 19.3)
    assert "whole_steps" not in config.encode(old, sparse=True)
    assert "whole_steps" in config.encode(IFT, sparse=True)
