"""Sweeps, best rates, capacity, throughput and the agreement of axes against values worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from analysis import agreement, capacity, command, correlation, curves, grid, optima, sweeps, throughput, tradeoff
from replication.results import RunRow, Score

Study = Callable[..., Any]
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def losses_best_at(best: dict[str, float]) -> dict[float, Any]:
    """A sweep whose target loss is a parabola in log rate with its minimum at `best` of each arm."""

    def at(lr: float) -> Any:
        def truth(study: str, arm: str, length: float) -> dict[str, float]:
            off = math.log10(lr) - math.log10(best[arm])
            return {
                "learning": 0.8 - off**2, "forgetting": 0.7, "source_loss": 1.2, "target_loss": 1 + off**2,
                "correct": 20.0, "incorrect": 20.0,
            }  # fmt: skip

        return truth

    return {lr: at(lr) for lr in RATES}


def as_sweep(tables: grid.Tables, sweep: str, changes: dict[str, dict[str, Any]]) -> grid.Tables:
    """The tables with some arms' runs of the rate sweep as runs of another sweep, and no others of it."""
    runs = []
    for row in tables.runs:
        arm = grid.label(row)
        if row.study != "ift_code.learning_rates":
            runs.append(row)
        elif arm in changes:
            runs.append(replace(row, study=f"ift_code.{sweep}", **changes[arm]))
    return replace(tables, runs=tuple(runs))


# ---------------------------------------------------------------- best rates


@pytest.mark.parametrize("at", [-2.9, -3.0, -3.12])
def test_the_vertex_of_a_parabola_is_found_on_any_three_rates(at: float) -> None:
    x = np.array([-3.3, -3.0, -2.6])
    assert optima.vertex(x, 2 + 0.7 * (x - at) ** 2) == pytest.approx(at)


def test_a_vertex_needs_the_lowest_value_in_the_middle() -> None:
    assert optima.vertex(np.array([0.0, 1.0, 2.0]), np.ones(3)) == 1.0
    with pytest.raises(ValueError, match="no minimum inside"):
        optima.vertex(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))


def test_the_optimum_at_an_edge_is_the_edge() -> None:
    x = np.log10(RATES)
    assert optima.optimum(x, x) == x[0] and optima.edge(x, x) == "lowest"
    assert optima.optimum(x, -x) == x[-1] and optima.edge(x, -x) == "highest"


def test_the_rise_is_the_loss_at_half_the_best_rate() -> None:
    x = np.log10([1e-3, 2e-3, 4e-3])
    assert optima.rise(x, np.array([5.0, 3.0, 4.0])) == pytest.approx(2.0)
    assert math.isnan(optima.rise(x, np.array([1.0, 3.0, 4.0])))
    # A grid of factors of four: half the best rate lies in the middle, in log rate.
    assert optima.rise(np.log10([1e-3, 4e-3, 1.6e-2]), np.array([5.0, 3.0, 4.0])) == pytest.approx(1.0)


def test_the_measured_ratio_is_the_ratio_of_the_true_optima(make_study: Study) -> None:
    best = {"full": 1e-3, "r1": 4e-3, "r4": 3e-3, "r16": 2e-3}
    tables = make_study(items=150, seeds=(0,), sweep=losses_best_at(best), only=("ift_code",))
    made, missing = optima.effects(tables)
    found = {row["quantity"]: row for row in made if row["setting"] == "ift_code"}
    for quantity, truth in (
        ("lr_ratio_high", math.log10(2)),
        ("lr_ratio_r1", math.log10(4)),
        ("lr_ratio_mean", (math.log10(2) + math.log10(3) + math.log10(4)) / 3),
        ("lr_rank_spread", math.log2(3 / 2)),
    ):
        row = found[quantity]
        assert row["value"] == pytest.approx(truth, abs=0.12)
        assert row["low"] < row["value"] < row["high"] and row["covers"] == "items"
    assert "one seed" in found["lr_ratio_high"]["words"]
    # The score falls beyond the optimum, and the model has not diverged there.
    assert found["lora_monotone"]["value"] < 0 and "4e-3" in found["lora_monotone"]["words"]
    assert not [m for m in missing if m.study == "ift_code"]


def test_a_best_rate_at_the_edge_of_the_grid_is_said_and_bounded(make_study: Study) -> None:
    best = {"full": 1e-4, "r1": 4e-3, "r4": 3e-3, "r16": 2e-3}
    tables = make_study(items=60, seeds=(0,), sweep=losses_best_at(best), only=("ift_code",))
    made, missing = optima.effects(tables)
    assert {row["quantity"] for row in made} == {"lr_rank_spread", "lora_monotone"}
    said = {m.what.split(":")[0]: m.what for m in missing if m.study == "ift_code"}
    # Full may be best below the grid: the true ratio is larger than what the edge gives.
    assert "full's best rate is the lowest tried: at least 0.6" in said["lr_ratio_high"]


# ---------------------------------------------------------------- sweeps


def test_every_point_of_a_sweep_has_its_axes_and_the_best_rate_is_chosen(make_study: Study) -> None:
    best = {"full": 1e-3, "r1": 4e-3, "r4": 4e-3, "r16": 2e-3}
    tables = make_study(items=60, seeds=(0,), sweep=losses_best_at(best), only=("ift_code",))
    made, _ = sweeps.sweeps(tables)
    assert len(made) == 4 * len(RATES) * 4  # arms, rates, axes
    chosen = {r["arm"]: r["lr"] for r in made if r["chosen"] and r["axis"] == "target_loss"}
    assert chosen == best
    assert not any(r["own"] for r in made) and all(r["low"] <= r["value"] <= r["high"] for r in made)


def test_a_variant_stands_beside_the_settings_own_run(make_study: Study, paper_truth: Any) -> None:
    tables = make_study(items=40, seeds=(0, 1), sweep={1e-3: paper_truth}, only=("ift_code",))
    found = as_sweep(tables, "modules", {"r4": {"method": "lora-r4-attention"}})
    made, _ = sweeps.sweeps(found)
    seen = {(r["arm"], r["variant"], r["own"], r["seeds"], r["length"]) for r in made}
    assert seen == {("r4", "", True, 2, 2.0), ("r4", "attention", False, 1, 2.0)}
    assert all(r["chosen"] for r in made)


def test_regularised_full_fine_tuning_stands_beside_every_arm(make_study: Study, paper_truth: Any) -> None:
    tables = make_study(items=40, seeds=(0,), sweep={1e-3: paper_truth}, only=("ift_code",))
    made, _ = sweeps.sweeps(as_sweep(tables, "regularisation", {"full": {"variant": "wd1e-4"}}))
    assert {(r["arm"], r["variant"]) for r in made} == {
        ("full", "wd1e-4"), ("full", ""), ("r1", ""), ("r4", ""), ("r16", "")
    }  # fmt: skip


def test_a_seed_that_the_setting_has_trained_counts_once(make_study: Study, paper_truth: Any) -> None:
    tables = make_study(items=40, seeds=(0, 1), sweep={1e-3: paper_truth}, only=("ift_code",))
    again = sweeps.spots(as_sweep(tables, "optimiser", {"full": {"seed": 1}}), "ift_code", "optimiser")
    more = sweeps.spots(as_sweep(tables, "optimiser", {"full": {"seed": 2}}), "ift_code", "optimiser")
    assert [[r.seed for r in spot.runs] for spot in again] == [[0, 1]]
    assert [[r.seed for r in spot.runs] for spot in more] == [[0, 1, 2]]


# ---------------------------------------------------------------- correlations


def test_the_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 6, 40), rng.normal(size=40)
    assert correlation.spearman(left, right) == pytest.approx(reference.spearmanr(left, right).statistic)
    assert correlation.spearman(np.ones(4), np.arange(4)) == 0.0
    with pytest.raises(ValueError, match="three or more"):
        correlation.spearman(np.ones(2), np.ones(2))


def test_axes_that_order_the_points_alike_correlate_fully(make_study: Study) -> None:
    def agreeing(study: str, arm: str, length: float) -> dict[str, float]:
        place = {"base": 0, "full": 3, "r16": 2, "r4": 1, "r1": 0}[arm] + length / 10
        return {
            "learning": 0.5, "forgetting": 0.9 - place / 8, "source_loss": 1 + place, "target_loss": 1.0,
            "correct": 9.0, "incorrect": 9.0,
        }  # fmt: skip

    def opposed(study: str, arm: str, length: float) -> dict[str, float]:
        found = agreeing(study, arm, length)
        return found | {"source_loss": 9 - found["source_loss"]}

    for truth, sign in ((agreeing, 1), (opposed, -1)):
        tables = make_study(truth, items=150, seeds=(0, 1), only=("ift_code",))
        found = sorted(grid.cells(tables, "ift_code").items())
        by_seed = [[[grid.point(row)] for (_, _, s), row in found if s == seed] for seed in (0, 1)]
        pairs = [[*first, *second] for first, second in zip(*by_seed, strict=True)]
        setting = grid.settings(tables.scale)["ift_code"]
        made = agreement.of_axes(tables, setting, pairs, by_seed, rng=np.random.default_rng(0))
        assert made is not None and "12 points" in made[0]
        assert sign * made[1].value > 0.95 and -1 <= made[1].low <= made[1].high <= 1


def test_both_axes_of_forgetting_have_a_front(make_study: Study, paper_truth: Any) -> None:
    made = [r for r in tradeoff.tradeoff(make_study(items=40, seeds=(0,))) if r["study"] == "ift_code"]
    expected = tradeoff.front(np.array([r["learning"] for r in made]), -np.array([r["source_loss"] for r in made]))
    assert [i for i, r in enumerate(made) if r["on_front_loss"]] == sorted(expected.tolist())


def test_the_loss_front_of_who_keeps_the_source_lies_higher(make_study: Study) -> None:
    def kept(study: str, arm: str, length: float) -> dict[str, float]:
        learnt = 0.1 if arm == "base" else 0.1 + length / 8
        lost = {"base": 0.0, "full": 0.8, "r16": 0.2}.get(arm, 0.4) * length
        return {
            "learning": learnt, "forgetting": 0.8, "source_loss": 1 + lost, "target_loss": 1.0, "correct": 9.0,
            "incorrect": 9.0,
        }  # fmt: skip

    tables = make_study(kept, items=300, seeds=(0, 1), only=("ift_code",))
    found = tradeoff.gap(tables, "ift_code", "r16", "full", rng=np.random.default_rng(0), axis="source_loss")
    # Heights fall by 1.6 and 6.4 a unit of learning over [0, .5]: the mean difference is 4.8 x .25.
    assert found is not None and found[0].low < 1.2 < found[0].high and found[0].value == pytest.approx(1.2, abs=0.15)


# ---------------------------------------------------------------- scores without items


def printed(tables: grid.Tables) -> grid.Tables:
    """The tables with standard errors instead of per-item values."""
    scores: dict[grid.Key, Score] = {key: replace(row, stderr=0.05) for key, row in tables.scores.items()}
    return replace(tables, scores=scores, items={})


def test_a_printed_score_has_its_normal_interval(make_study: Study) -> None:
    tables = printed(make_study(items=40, seeds=(0,), only=("ift_code",)))
    made, _ = curves.curves(tables)
    row = next(r for r in made if r["axis"] == "forgetting" and r["arm"] == "full" and r["length"] == 1.0)
    half = 1.959964 * 0.05 / math.sqrt(3)  # the mean of three benchmarks
    assert (row["low"], row["high"]) == pytest.approx((row["value"] - half, row["value"] + half))
    assert row["covers"] == "items, unpaired"


def test_a_gap_of_printed_points_is_the_gap_of_their_scores(make_study: Study) -> None:
    whole = make_study(items=100, seeds=(0,), only=("cpt_code",))
    pair = [tradeoff.gap(t, "cpt_code", "r16", "full", rng=np.random.default_rng(0)) for t in (whole, printed(whole))]
    assert pair[0] is not None and pair[1] is not None
    assert pair[1][0].value == pytest.approx(pair[0][0].value)
    assert pair[1][0].covers == "items, unpaired" and pair[1][0].low < pair[1][0].value < pair[1][0].high


# ---------------------------------------------------------------- capacity


def test_the_bits_of_data_and_parameters_are_those_worked_out_by_hand(make_study: Study) -> None:
    tables = make_study(items=60, seeds=(0, 1), only=("ift_code",))
    runs = tuple(replace(r, trainable=500, supervised_tokens=int(1000 * r.length)) for r in tables.runs)
    made, missing = capacity.capacity(replace(tables, runs=runs))
    assert [m.study for m in missing] == []
    row = next(r for r in made if (r["arm"], r["length"]) == ("r4", 4.0))
    nats = tables.scores["base", 0, "ift_code_loss", "nats_per_token"].value
    assert row["dataset_tokens"] == 1000  # a pass, however many epochs
    assert row["dataset_bits"] == pytest.approx(1000 * nats / math.log(2))
    assert (row["bits_low"], row["bits"]) == (500, 1000)
    assert row["ratio"] == pytest.approx(row["dataset_bits"] / 1000)
    full = np.mean([r.value for k, r in tables.scores.items() if "full" in k[0] and "-4-" in k[0] and k[3] == "pass@1"])
    assert row["gap_to_full"] == pytest.approx(full - row["learning"])


def test_a_load_that_orders_the_gaps_predicts_them(make_study: Study, paper_truth: Any) -> None:
    tables = make_study(items=300, seeds=(0, 1), only=("cpt_code",))
    runs = tuple(replace(r, trainable=100 * (r.rank or 1)) for r in tables.runs)
    found = {r["quantity"]: r for r in capacity.named_effects(replace(tables, runs=runs)) if r["setting"] == "cpt_code"}
    gaps, loads = [], []
    for arm, rank in (("r1", 1), ("r4", 4), ("r16", 16)):
        for length in (64e3, 128e3, 256e3):
            truth = [paper_truth("cpt_code", a, length)["learning"] for a in ("full", arm)]
            gaps.append(truth[0] - truth[1])
            loads.append(length / rank)
    expected = reference.spearmanr(loads, gaps).statistic
    assert found["capacity_predicts"]["value"] == pytest.approx(expected, abs=0.06)
    assert found["capacity_predicts"]["low"] < expected < found["capacity_predicts"]["high"] + 1e-9


# ---------------------------------------------------------------- throughput


def test_the_slow_down_is_one_minus_the_ratio_of_speeds(make_study: Study) -> None:
    tables = make_study(items=30, seeds=(0, 1))
    runs = tuple(replace(r, seconds=1.25 if r.rank else 1.0) for r in tables.runs if isinstance(r, RunRow))
    made = {(r["quantity"], r["setting"]): r for r in throughput.slower(replace(tables, runs=runs))}
    # 1.25 times as long is four fifths of the speed.
    assert made["slower", "all"]["value"] == pytest.approx(0.2)
    assert made["slower_r4", "ift_code"]["value"] == pytest.approx(0.2)
    assert made["slower", "all"]["seeds"] == 2 and "shared machine" in made["slower", "all"]["words"]


def batch_row(arm: str, batch: int, **values: float) -> dict[str, Any]:
    rank = grid.rank_of(arm)
    plain = {"tokens_per_s": 100.0, "low": 90.0, "high": 100.0, "tokens_per_cpu_s": 100.0, "peak_memory_gb": 2.0}
    where = {"arm": arm, "rank": rank, "batch": batch, "seq_len": 128, "hardware": "cpu", "repeats": 3}
    return where | plain | {"floor_memory_gb": 1.0} | values


def test_memory_saved_is_counted_with_and_without_the_floor() -> None:
    table = [batch_row("full", b) for b in (1, 64)]
    table += [batch_row(arm, 1, peak_memory_gb=1.5, tokens_per_cpu_s=80.0) for arm in ("r1", "r4")]
    table += [batch_row(arm, 64, peak_memory_gb=1.8, tokens_per_cpu_s=90.0) for arm in ("r1", "r4")]
    made = {r["quantity"]: r["value"] for r in throughput.from_benchmark(table)}
    assert made == pytest.approx(
        {"memory_small": 0.25, "memory_large": 0.1, "memory_small_net": 0.5, "memory_large_net": 0.2}
        | {"slower_benchmark": 0.15}
    )


def test_a_benchmark_that_was_not_run_is_missing_and_says_how(make_study: Study, tmp_path: Path) -> None:
    tables = make_study(items=30, seeds=(0, 1), only=("ift_code",))
    where = command.Places(tables.scale, tmp_path, tmp_path, tmp_path / "out")
    (gap,) = throughput.write(tables, where)
    assert "replication.benchmark_batch" in gap.what
    written = (tmp_path / "out" / "throughput_effects.jsonl").read_text().splitlines()
    assert {json.loads(line)["quantity"] for line in written} == {"slower", "slower_r1", "slower_r4", "slower_r16"}
