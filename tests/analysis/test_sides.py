"""Side studies: comparisons in pairs, against hand-computed values."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import command, grid, side_tables, sides
from analysis import rows as table
from analysis.side_tables import Side
from experiments import whisper
from experiments.comparisons import Question
from replication.config import Source
from replication.results import Items, RunRow, Score, write_rows

SEEDS = (0, 1, 2)
WER = Question("q", "lora", "full", "test", "wer")
TIME = Question("q", "lora", "full", "run", "step_seconds", "saved")


def _run(arm: str, seed: int, step_seconds: float | None) -> RunRow:
    return RunRow(
        scale="whisper", study="whisper", run=f"whisper/{arm}-s{seed}", digest=f"{arm}{seed}", seed=seed, regime="ift",
        method=arm, rank=None, lr=1e-3, length=1, length_unit="epochs", trunk=False, step=10, tokens=1000,
        supervised_tokens=200, trainable=5, final_loss=1.0, seconds=20.0, git_sha="x", started="now", hardware="cpu",
        real_tokens=400, step_seconds=step_seconds, gradient_norms={"a": 0.5, "b": 0.25},
    )  # fmt: skip


def _side(values: dict[tuple[str, int], list[float]], seconds: dict[str, float | None]) -> Side:
    names = {key: "base" if key[0] == "base" else f"whisper/{key[0]}-s{key[1]}" for key in values}
    same = {"scale": "whisper", "study": "whisper", "digest": "x", "step": 10, "eval": "test", "eval_version": 1}
    items = {
        (names[key], "test", "wer"): Items(
            **same, run=names[key], seed=key[1], metric="wer", ids=tuple(map(str, range(len(v)))), values=tuple(v)
        )
        for key, v in values.items()
    }
    scores = {
        key: Score(
            **same, run=row.run, seed=row.seed, tokens=1, metric="wer", value=float(np.mean(row.values)),
            n=len(row.values), stderr=None, git_sha="x",
        )
        for key, row in items.items()
    }  # fmt: skip
    runs = {(arm, seed): _run(arm, seed, seconds[arm]) for arm, seed in values if arm != "base"}
    return Side("whisper", "made", runs, scores, items)


@pytest.fixture
def side() -> Side:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, 40)
    values: dict[tuple[str, int], list[float]] = {("base", 0): list(hard + 1)}
    for seed in SEEDS:
        values["full", seed] = list(hard + rng.normal(0, 0.01, 40))
        values["lora", seed] = list(hard + 0.1 + rng.normal(0, 0.01, 40))
    return _side(values, {"full": 2.0, "lora": 1.5})


def test_a_difference_is_the_mean_over_items_and_seeds_and_pairing_removes_what_items_share(side: Side) -> None:
    found = sides.estimate(side, WER)
    assert found is not None
    by_hand = np.mean([np.subtract(_values(side, "lora", s), _values(side, "full", s)) for s in SEEDS])
    assert found.value == pytest.approx(by_hand)
    assert (found.items, found.seeds) == (40, 3)
    # The items alone spread by .29: unpaired, the interval would be ten times as wide.
    assert found.high - found.low < 0.02


def test_saved_time_is_one_less_the_ratio_with_seeds_as_the_only_source_of_doubt(side: Side) -> None:
    runs = {key: replace(run, step_seconds=run.step_seconds * (1 + 0.01 * key[1])) for key, run in side.runs.items()}  # type: ignore[operator]
    found = sides.estimate(replace(side, runs=runs), TIME)
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert (found.items, found.seeds) == (1, 3)


def test_a_cost_of_one_seed_has_no_interval_and_so_no_estimate(side: Side) -> None:
    runs = {key: run for key, run in side.runs.items() if key[1] == 0}
    assert sides.estimate(replace(side, runs=runs), TIME) is None
    assert sides.estimate(replace(side, runs=runs), WER) is not None


def test_what_was_not_measured_gives_no_estimate(side: Side) -> None:
    assert sides.estimate(side, replace(WER, metric="cer")) is None
    assert sides.estimate(side, replace(WER, left="vera")) is None
    unmeasured = {key: replace(run, step_seconds=None) for key, run in side.runs.items()}
    assert sides.estimate(replace(side, runs=unmeasured), TIME) is None


def test_nothing_is_concluded_from_arms_that_never_left_the_base() -> None:
    base = list(np.random.default_rng(1).uniform(0, 1, 30))
    still = {("base", 0): base} | {(arm, seed): base for arm in ("full", "lora") for seed in SEEDS}
    assert sides.estimate(_side(still, {"full": 1.0, "lora": 1.0}), replace(WER)) is None


def test_frozen_classifiers_of_equal_macro_f1_are_no_finding_and_equal_answers_have_a_width() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 60)
    base = rng.integers(0, 3, 60)
    tuned = np.where(rng.uniform(size=60) < 0.9, labels, base)
    question = Question("q", "lora", "full", "test", "macro_f1")
    assert sides.estimate(_classified(labels, {"base": base, "lora": base, "full": base}), question) is None
    found = sides.estimate(_classified(labels, {"base": base, "lora": tuned, "full": tuned}), question)
    assert found is not None
    assert (found.value, found.high > 0.01) == (0.0, True)
    same = sides.estimate(
        _classified(labels, {"base": base, "lora": tuned, "full": tuned}), replace(question, metric="accuracy")
    )
    assert same is not None
    assert same.high > 0.01


def test_arms_that_were_asked_other_items_are_refused(side: Side) -> None:
    keys = [("whisper/lora-s" + str(seed), "test", "wer") for seed in SEEDS]
    odd = {key: replace(side.items[key], ids=tuple(f"other{i}" for i in range(40))) for key in keys}
    with pytest.raises(ValueError, match="lora and full were asked other items"):
        sides.estimate(replace(side, items=side.items | odd), WER)


def test_only_a_cost_can_be_saved(side: Side) -> None:
    with pytest.raises(ValueError, match="only a cost"):
        sides.estimate(side, replace(WER, kind="saved"))


def test_seeds_that_were_asked_different_items_are_refused(side: Side) -> None:
    key = ("whisper/lora-s1", "test", "wer")
    odd = replace(side.items[key], ids=tuple(f"other{i}" for i in range(40)))
    with pytest.raises(ValueError, match="asked different items of 'test'"):
        sides.estimate(replace(side, items={**side.items, key: odd}), WER)


def test_tokens_per_second_count_what_is_supervised_and_what_is_no_padding() -> None:
    found = side_tables.costs(_run("full", 0, 0.5))
    assert found["supervised_tokens_per_s"] == pytest.approx(200 / 10 / 0.5)
    assert found["real_tokens_per_s"] == pytest.approx(400 / 10 / 0.5)
    assert found["least_gradient_norm"] == 0.25
    assert "peak_memory_gb" not in found


def test_every_arm_and_seed_has_rows_of_scores_and_costs_and_the_base_of_scores(side: Side) -> None:
    made = side_tables.of_arms(side)
    assert {(r["arm"], r["seed"]) for r in made} == {("base", None), *((a, s) for a in ("full", "lora") for s in SEEDS)}
    assert {r["eval"] for r in made if r["arm"] == "base"} == {"test"}
    assert {r["metric"] for r in made if r["eval"] == "run"} >= {"step_seconds", "trainable", "real_tokens_per_s"}


def _classified(labels: np.ndarray, answers: dict[str, np.ndarray]) -> Side:
    side = _side({(arm, seed): [0.0] * len(labels) for arm in answers for seed in SEEDS}, {"full": 1.0, "lora": 1.0})
    items = {}
    for row in side.items.values():
        arm = "base" if row.run == "base" else row.run.removeprefix("whisper/").split("-")[0]
        found = {"predicted": answers[arm], "label": labels, "accuracy": answers[arm] == labels}
        for metric, values in found.items():
            items[row.run, "test", metric] = replace(row, metric=metric, values=tuple(values.astype(float)))
    return replace(side, items=items)


def _values(side: Side, arm: str, seed: int) -> tuple[float, ...]:
    return side.items[f"whisper/{arm}-s{seed}", "test", "wer"].values


def _collected(folder: Path, data: dict[str, str]) -> None:
    """Runs of the Whisper study's first seed, trained on `data` by arm."""
    runs = whisper.arms(whisper.SCALES["pocket"], 0)
    rows = [replace(_run(arm, 0, None), run=run.name(), data=data[arm]) for arm, run in runs.items()]
    write_rows(folder / "whisper" / "runs.jsonl", rows)


def test_every_row_names_the_data_its_run_was_trained_on(tmp_path: Path) -> None:
    _collected(tmp_path, dict.fromkeys(("full", "lora-qv", "lora-all"), "voices"))
    side = side_tables.load(whisper.SCALES["pocket"], tmp_path)
    assert side is not None and side.data == "voices"
    assert {row["data"] for row in side_tables.of_arms(side)} == {"voices"}


def test_runs_on_recordings_and_on_synthetic_voices_are_not_compared(tmp_path: Path) -> None:
    _collected(tmp_path, {"full": "voices", "lora-qv": "voices", "lora-all": "recordings"})
    with pytest.raises(ValueError, match=r"different data \(recordings, voices\)"):
        side_tables.load(whisper.SCALES["pocket"], tmp_path)


def test_a_study_of_ones_own_is_analysed_as_such_and_the_projects_with_their_size(tmp_path: Path) -> None:
    source = Source("clips")
    own = whisper.desk("mine", model="m/m", language=None, train=source, validation=source, test=source)
    arms = whisper.arms(own, 0)
    rows = [replace(_run(arm, 0, None), run=run.name(), data="clips") for arm, run in arms.items()]
    write_rows(tmp_path / "mine" / "runs.jsonl", rows)
    places = command.Places(own, tmp_path, tmp_path, tmp_path / "out")
    gaps = sides.write(grid.Tables(own, (), {}, {}), places)
    assert gaps and all("--scale mine" in gap.what for gap in gaps)
    assert {row["arm"] for row in table.read(tmp_path / "out" / "side_whisper.jsonl")} == set(arms)
    options = {"results": None, "out": None, "runs": tmp_path}
    with pytest.raises(ValueError, match="analysed with those of --scale pocket"):
        command.resolve(Namespace(scale="whisper", **options))
