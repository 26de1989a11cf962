"""Schedules at the paper's knots, computed by hand from llm-foundry's rules; LionW is tested in test_train.py."""

from __future__ import annotations

import math

import pytest
import torch

from replication import optim
from replication.config import SGD, AdamW, Cosine, LionW, Trapezoid

PAPER_CPT = Trapezoid(warmup=1000, cooldown=0.2)
TOTAL = 25_431  # 20B tokens at 786,432 a step; a fifth of it, 5,086, is the cooldown (Appendix A of the paper)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (500, 0.5), (1000, 1.0), (20_344, 1.0), (20_345, 1.0), (22_888, 2543 / 5086), (25_430, 1 / 5086)],
)
def test_the_trapezoid_stands_where_the_papers_does(step: int, expected: float) -> None:
    assert optim.factor(PAPER_CPT, step, TOTAL) == pytest.approx(expected, abs=1e-12)


def test_a_length_inside_the_warm_up_never_cools_down() -> None:
    # .25B tokens are 318 steps: llm-foundry returns the warm-up's rate to the end.
    assert optim.factor(PAPER_CPT, 317, 318) == pytest.approx(0.317)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (10, 0.5), (20, 1.0), (110, 0.505), (199, 0.0100754)])
def test_the_cosine_falls_to_one_percent_after_a_tenth_of_warm_up(step: int, expected: float) -> None:
    assert optim.factor(Cosine(warmup=0.1, floor=0.01), step, 200) == pytest.approx(expected, abs=1e-6)


def test_a_step_outside_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="step 10 is outside"):
        optim.factor(Cosine(), 10, 10)


def test_weight_decay_is_not_multiplied_by_the_rate() -> None:
    p = torch.nn.Parameter(torch.ones(1))
    lion = optim.build(LionW(1e-5, weight_decay=1e-4), [p])
    p.grad = torch.zeros(1)
    lion.step()
    assert float(p.detach()) == pytest.approx(1 - 1e-4, abs=1e-7)


def test_adamw_is_torchs_own_with_the_runs_numbers() -> None:
    built = optim.build(AdamW(1e-3, betas=(0.8, 0.9), weight_decay=0.1), [torch.nn.Parameter(torch.ones(1))])
    assert type(built) is torch.optim.AdamW
    group = built.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.8, 0.9), 0.1)


def test_lionw_moves_every_weight_by_the_rate() -> None:
    p = torch.nn.Parameter(torch.zeros(100))
    lion = optim.LionW([p], lr=0.25)
    p.grad = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 10 ** torch.linspace(-6, 6, 100)
    lion.step()
    assert torch.equal(p.detach().abs(), torch.full((100,), 0.25))
    assert math.isclose(float((p.detach() * p.grad).sum().sign()), -1.0)


def test_sgd_is_torchs_with_momentum() -> None:
    ours, theirs = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    pairs = [(ours, optim.build(SGD(0.1), [ours])), (theirs, torch.optim.SGD([theirs], lr=0.1, momentum=0.9))]
    for _ in range(3):
        for weights, optimiser in pairs:
            optimiser.zero_grad()
            weights.square().sum().backward()
            optimiser.step()
    assert torch.equal(ours, theirs) and ours[0] < 1
