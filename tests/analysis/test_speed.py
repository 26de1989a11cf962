"""The speed comparison runs and agrees; the ratios themselves are measured at full size, not here."""

from __future__ import annotations

from analysis.speed import spectra_speed


def test_both_ways_agree_and_factors_win_even_when_small() -> None:
    found = spectra_speed(size=600, rank=16, repeats=2)
    assert found["lora_relative_error"] < 1e-5
    assert found["dense_rank90_gram"] == found["dense_rank90_svdvals"]
    assert found["dense_rank90_unsquared_gram"] == found["dense_rank90_unsquared_svdvals"]
    assert found["lora_ratio"] > 5
