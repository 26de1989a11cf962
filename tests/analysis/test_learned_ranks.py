"""Learned ranks: counted in checkpoints of both methods, and compared over matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from analysis import learned_ranks
from replication.config import AdaLoRA, BitFit, S2LoRA
from replication.methods import attach
from tests.replication.methods import pieces


@pytest.mark.parametrize("method", [S2LoRA(4), AdaLoRA(4, 2, alpha=4)], ids=["s2lora", "adalora"])
def test_ranks_are_counted_under_the_same_names_for_both_methods(method: S2LoRA | AdaLoRA, tmp_path: Path) -> None:
    model = pieces.base("speech")
    attached = attach(model, method, seed=0, steps=20)
    ends = (".coefficients", ".lora_E.default")
    names = sorted(name for name in attached.trainable if name.endswith(ends))
    with torch.no_grad():
        for place, name in enumerate(names):  # as many entries that are not zero as place % 5 says
            attached.trainable[name].view(-1)[: place % 5] = 0.5
    found = learned_ranks.of_checkpoint(pieces.saved(model, attached, tmp_path / "tuned"))
    assert len(found) == 32
    assert sorted(found.values()) == sorted((place % 5, 4) for place in range(32))
    assert "decoder.layers.1.encoder_attn.out_proj" in found
    assert "encoder.layers.0.fc1" in found


def test_a_checkpoint_without_coefficients_is_refused(tmp_path: Path) -> None:
    model = pieces.base("speech")
    folder = pieces.saved(model, attach(model, BitFit(), seed=0), tmp_path / "tuned")
    with pytest.raises(ValueError, match="neither S2-LoRA nor AdaLoRA"):
        learned_ranks.of_checkpoint(folder)


def _listed(arm: str, seed: int, ranks: list[int]) -> list[dict[str, object]]:
    return [
        {"study": "s2lora", "arm": arm, "seed": seed, "module": f"m{i:02}", "rank": rank, "of": 8}
        for i, rank in enumerate(ranks)
    ]


def test_the_correlation_is_scipy_s_and_repeats_need_two_seeds() -> None:
    rng = np.random.default_rng(0)
    ours = [rng.integers(0, 9, 24).tolist() for _ in range(2)]
    theirs = [(np.array(one) + rng.integers(-2, 3, 24)).tolist() for one in ours]
    first = _listed("s2lora", 0, ours[0]) + _listed("adalora", 0, theirs[0])
    (row,) = learned_ranks.effect_rows(first)
    assert row["quantity"] == "s2lora_rank_correlation"
    assert row["value"] == pytest.approx(spearmanr(ours[0], theirs[0]).statistic)
    assert -1 <= row["low"] < row["value"] < row["high"] <= 1

    both = first + _listed("s2lora", 1, ours[1]) + _listed("adalora", 1, theirs[1])
    found = {row["quantity"]: row["value"] for row in learned_ranks.effect_rows(both)}
    assert set(found) == {"s2lora_rank_correlation", "adalora_rank_repeat", "s2lora_rank_repeat"}
    each = [spearmanr(ours[s], theirs[s]).statistic for s in range(2)]
    assert found["s2lora_rank_correlation"] == pytest.approx(np.mean(each))
    assert found["adalora_rank_repeat"] == pytest.approx(spearmanr(theirs[0], theirs[1]).statistic)


def test_equal_ranks_everywhere_agree_with_nothing() -> None:
    listed = _listed("s2lora", 0, [4] * 6) + _listed("adalora", 0, [1, 2, 3, 4, 5, 6])
    (row,) = learned_ranks.effect_rows(listed)
    assert row["value"] == 0
