"""Schedules at the paper's knots, computed by hand from llm-foundry's rules; LoRA+ against AdamW's formula and PEFT;
LionW is tested in test_train.py."""

from __future__ import annotations

import math

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from transformers import LlamaConfig, LlamaForCausalLM

from replication import optim
from replication.config import SGD, AdamW, Cosine, LionW, LoRA, Trapezoid
from replication.methods import attach
from replication.methods.attached import Attached

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
    lion = optim.build(LionW(1e-5, weight_decay=1e-4), {"p": p})
    p.grad = torch.zeros(1)
    lion.step()
    assert float(p.detach()) == pytest.approx(1 - 1e-4, abs=1e-7)


def test_adamw_is_torchs_own_with_the_runs_numbers() -> None:
    built = optim.build(AdamW(1e-3, betas=(0.8, 0.9), weight_decay=0.1), {"p": torch.nn.Parameter(torch.ones(1))})
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
    pairs = [(ours, optim.build(SGD(0.1), {"p": ours})), (theirs, torch.optim.SGD([theirs], lr=0.1, momentum=0.9))]
    for _ in range(3):
        for weights, optimiser in pairs:
            optimiser.zero_grad()
            weights.square().sum().backward()
            optimiser.step()
    assert torch.equal(ours, theirs) and ours[0] < 1


# ---------------------------------------------------------------- LoRA+


def adapted() -> Attached:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=0.3,
    )  # fmt: skip
    return attach(LlamaForCausalLM(config), LoRA(4, 8, dropout=0.0), seed=1)


def descend(attached: Attached, optimiser: torch.optim.Optimizer, steps: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(2))
    for _ in range(steps):
        optimiser.zero_grad()
        attached.model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    return {name: p.detach().clone() for name, p in attached.trainable.items()}


def test_one_update_of_lora_plus_is_adamw_by_hand_with_sixteen_times_the_rate_for_b() -> None:
    start, decay = {"lora_A": torch.tensor([0.5, -2.0]), "lora_B": torch.tensor([0.25, 1.0])}, 0.1
    gradient = {"lora_A": torch.tensor([0.3, -4.0]), "lora_B": torch.tensor([-2.0, 1e-3])}
    params = {f"q_proj.{name}.default.weight": torch.nn.Parameter(value.clone()) for name, value in start.items()}
    built = optim.build(AdamW(1e-2, weight_decay=decay, eps=1e-8, b_ratio=16), params)
    for name, p in params.items():
        p.grad = gradient[name.split(".")[1]].clone()
    built.step()
    for name, p in params.items():
        key = name.split(".")[1]
        rate = 1e-2 * (16 if key == "lora_B" else 1)
        g = gradient[key]  # after one step the debiased moments are g and g squared
        expected = start[key] * (1 - rate * decay) - rate * g / (g.abs() + 1e-8)
        assert torch.allclose(p.detach(), expected, atol=1e-7)


def test_lora_plus_trains_as_pefts_own_optimiser_does() -> None:
    ours, theirs = adapted(), adapted()
    plus = optim.build(AdamW(3e-3, betas=(0.9, 0.95), b_ratio=16), ours.trainable)
    packaged = create_loraplus_optimizer(
        theirs.model, torch.optim.AdamW, lr=3e-3, loraplus_lr_ratio=16, betas=(0.9, 0.95), eps=1e-8
    )
    after, expected = descend(ours, plus, 5), descend(theirs, packaged, 5)
    assert after.keys() == expected.keys()
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in expected.items())
    one_rate = adapted()
    plain = descend(one_rate, optim.build(AdamW(3e-3, betas=(0.9, 0.95)), one_rate.trainable), 5)
    assert max(float((after[name] - value).abs().max()) for name, value in plain.items()) > 1e-2


def test_lora_plus_leaves_a_heads_bias_at_the_base_rate_where_peft_raises_it() -> None:
    names = ["x.lora_A.default.weight", "x.lora_B.default.weight", "classifier.bias", "classifier.weight"]
    params = {name: torch.nn.Parameter(torch.ones(2 if "bias" in name else (2, 2))) for name in names}
    base, raised = optim.build(AdamW(1e-3, b_ratio=16), params).param_groups
    assert [id(p) for p in raised["params"]] == [id(params["x.lora_B.default.weight"])]
    assert {id(p) for p in base["params"]} == {id(params[name]) for name in names if "lora_B" not in name}
    assert (base["lr"], raised["lr"], base["ratio"], raised["ratio"]) == (1e-3, 1.6e-2, 1.0, 16.0)


@pytest.mark.parametrize("wrapped", ["module.{}.lora_{}.default.weight", "{}.LORA_{}.weight", "_orig_mod.{}.lora_{}"])
def test_adapters_are_known_under_any_wrapper_and_in_any_case(wrapped: str) -> None:
    letters = "ab" if "LORA" in wrapped else "AB"
    params = {wrapped.format("q", letter): torch.nn.Parameter(torch.ones(2)) for letter in letters}
    base, raised = optim.groups_of(AdamW(1e-3, b_ratio=4), params)
    assert (len(base["params"]), len(raised["params"])) == (1, 1)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["model.embed_tokens.weight"], "none of 1 trained tensors is one"),
        (["q.lora_A.weight"], "q has only one"),
        (["q.lora_A.weight", "q.lora_B.weight", "k.lora_B.weight"], "k has only one"),
        (["q.lora_A", "q.lora_B", "q.lora_E"], "q.lora_E is neither"),
    ],
)
def test_lora_plus_without_both_groups_is_refused(names: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=rf"b_ratio=16 is LoRA\+'s.*{told}.*b_ratio=1"):
        optim.build(AdamW(1e-3, b_ratio=16), {name: torch.nn.Parameter(torch.ones(2)) for name in names})


# ---------------------------------------------------------------- how tensors are stepped


@pytest.mark.parametrize("kind", [AdamW, SGD])
@pytest.mark.parametrize("stepping", ["fused", "foreach", "loop"])
def test_every_way_of_stepping_is_the_one_asked_for_and_gives_the_same_weights(
    kind: type[AdamW | SGD], stepping: optim.Stepping
) -> None:
    reference, asked = adapted(), adapted()
    plain = optim.build(kind(1e-2), reference.trainable)
    built = optim.build(kind(1e-2), asked.trainable, stepping=stepping)
    group = built.param_groups[0]
    assert (bool(group["fused"]), bool(group["foreach"])) == (stepping == "fused", stepping == "foreach")
    expected = descend(reference, plain, 3)
    assert all(torch.allclose(w, expected[name], atol=1e-6) for name, w in descend(asked, built, 3).items())


def test_lionw_refuses_torchs_ways_of_stepping() -> None:
    with pytest.raises(ValueError, match=r"Speed.optimiser='fused' is for AdamW and SGD"):
        optim.build(LionW(1e-4), {"p": torch.nn.Parameter(torch.ones(1))}, stepping="fused")
