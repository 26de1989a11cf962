"""The speed comparisons run and agree; the ratios themselves are measured at full size, not here."""

from __future__ import annotations

from pathlib import Path

from analysis import speed


def test_both_ways_agree_and_factors_win_even_when_small() -> None:
    found = speed.spectra_speed(size=600, rank=16, repeats=2)
    assert found["lora_relative_error"] < 1e-5
    assert found["dense_rank90_gram"] == found["dense_rank90_svdvals"]
    assert found["dense_rank90_unsquared_gram"] == found["dense_rank90_unsquared_svdvals"]
    assert found["lora_ratio"] > 5


def test_a_pair_is_streamed_from_disk_and_extrapolated_from_a_stated_sample(tmp_path: Path) -> None:
    shapes = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (64, 64), "mlp.down_proj": (64, 160)}
    found = speed.pair_speed(tmp_path / "pair", layers=2, shapes=shapes, model_layers=32)
    assert (found["matrices"], found["sample"], found["svdvals_sample"]) == (96, 6, 4)
    assert len(list((tmp_path / "pair" / "base").glob("*.safetensors"))) == 2
    assert all(found[name] > 0 for name in ("ratio_clock", "ratio_processor", "minutes", "seconds_again", "peak_gb"))
    assert found["minutes_svdvals"] > 0
    assert speed.adapter_speed(tmp_path / "adapter", layers=2, shapes=shapes) > 0
