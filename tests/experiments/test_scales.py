"""The pocket scale against the issue it answers and against its own tracked rows: nothing is typed in by hope."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from experiments import studies
from experiments.arms import arms
from experiments.scales import INSTRUCT, POCKET, load
from experiments.sweeps import SUFFIX
from replication.config import LoRA, Trapezoid
from replication.pocket.template import TEMPLATE
from replication.results import read_runs, read_scores

RESULTS = Path(__file__).resolve().parent.parent.parent / "experiments" / "results" / "pocket"
SETTINGS = dict(POCKET.settings)


def test_the_study_has_four_settings_by_four_arms_at_enough_lengths() -> None:
    assert list(SETTINGS) == ["cpt_code", "cpt_math", "ift_code", "ift_math"]
    assert list(arms(POCKET)) == ["full", "r1", "r4", "r16"]
    for name, setting in SETTINGS.items():
        assert len(setting.lengths) >= (4 if name.startswith("cpt") else 3)


def test_lora_uses_all_linears_and_twice_the_rank_as_alpha() -> None:
    for method in arms(POCKET).values():
        if isinstance(method, LoRA):
            assert (method.targets, method.alpha) == ("all", 2 * method.rank)


def test_every_checkpoint_is_scored_on_target_forgetting_and_both_losses() -> None:
    for run in studies.runs("study", POCKET, seeds=1):
        setting = SETTINGS[run.study]
        trunk = isinstance(run.schedule, Trapezoid) and run.schedule.cooldown == 0
        wanted = () if trunk else (setting.target, setting.target_loss, *POCKET.forgetting, POCKET.source_loss)
        assert run.evals == wanted


def test_every_branch_starts_at_a_checkpoint_that_its_trunk_keeps() -> None:
    runs = {run.name(): run for run in studies.runs("study", POCKET, seeds=1)}
    branches = [run for run in runs.values() if run.branch]
    assert len(branches) == 2 * 4 * len(SETTINGS["cpt_code"].lengths)
    for run in branches:
        assert run.branch is not None
        assert run.branch.at_tokens in runs[run.branch.parent].ladder


def test_the_sweep_uses_seeds_that_the_study_does_not() -> None:
    swept = {run.seed for run in studies.runs("learning_rates", POCKET, seeds=3)}
    assert not swept & {run.seed for run in studies.runs("study", POCKET, seeds=50)}


def test_training_and_benchmarks_share_one_instruct_template() -> None:
    assert INSTRUCT == TEMPLATE


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_rate_has_the_lowest_held_out_target_loss_of_its_sweep(setting: str) -> None:
    table = RESULTS / f"{setting}{SUFFIX}.jsonl"
    if not table.is_file():
        pytest.skip(f"no tracked sweep of {setting} yet")
    runs = {row.run: row for row in read_runs(RESULTS / "runs.jsonl")}
    losses: dict[tuple[str, float], list[float]] = defaultdict(list)
    for score in read_scores(table):
        if (score.eval, score.metric) == (SETTINGS[setting].target_loss, "nats_per_token"):
            row = runs[score.run]
            losses["full" if row.rank is None else f"r{row.rank}", row.lr].append(score.value)
    for arm in arms(POCKET):
        means = {lr: sum(v) / len(v) for (a, lr), v in losses.items() if a == arm}
        best = min(means, key=means.__getitem__)
        assert best == SETTINGS[setting].rate(arm), (arm, means)
        # At the edge of its grid an arm might do better beyond it, and the comparison would be unfair.
        assert min(means) < best < max(means), f"{arm} was swept at {sorted(means)}, best at {best}"


def test_a_scale_file_must_define_a_scale(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("SCALE = 3\n")
    with pytest.raises(ValueError, match="defines no SCALE"):
        load(str(tmp_path / "empty.py"))
