"""The ablations: each grid is the figure's, names say what differs, and nothing is trained twice."""

from __future__ import annotations

import itertools

import pytest

from experiments import ablations, studies, sweeps
from experiments import paper_settings as said
from experiments.desk import DESK
from experiments.paper_scale import PAPER
from experiments.scales import POCKET
from replication.config import AdamW, Full, LoRA, Run
from replication.scale import Scale


def _runs(study: str) -> list[Run]:
    return studies.runs(study, PAPER, seeds=1)


@pytest.mark.parametrize("scale", [PAPER, DESK, POCKET], ids=lambda scale: scale.name)
def test_names_and_digests_are_unique_over_all_studies_of_a_scale(scale: Scale) -> None:
    listed = ("study", "learning_rates", *scale.ablations)
    runs = [run for study in listed for run in studies.runs(study, scale, seeds=2)]
    assert len({run.name() for run in runs}) == len({run.digest() for run in runs}) == len(runs)


@pytest.mark.parametrize("scale", [PAPER, DESK, POCKET], ids=lambda scale: scale.name)
def test_every_ablation_is_listed_has_runs_and_belongs_to_a_setting(scale: Scale) -> None:
    assert set(scale.ablations) <= set(studies.names(scale))
    for study in scale.ablations:
        assert studies.runs(study, scale, seeds=1)
        assert sweeps.setting_of(study) in dict(scale.settings)


def test_make_study_trains_no_ablation() -> None:
    assert POCKET.ablations
    assert not [run for run in studies.runs("study", POCKET, seeds=1) if "." in run.study]


def test_alpha_is_crossed_with_the_rates_but_for_the_point_that_the_setting_trains() -> None:
    runs = _runs("ift_code.alpha")
    points = {(run.method.alpha, run.optim.lr) for run in runs if isinstance(run.method, LoRA)}
    assert points == set(itertools.product(said.ALPHAS.value, said.SWEEP_RATES.value)) - {(512, 1e-4)}
    assert {(run.method.rank, run.budget.amount) for run in runs if isinstance(run.method, LoRA)} == {(256, 4)}
    maths = _runs("cpt_math.alpha")
    assert [run.method.alpha for run in maths if isinstance(run.method, LoRA)] == list(said.CPT_ALPHAS.value)


def test_what_an_ablation_leaves_out_is_trained_by_the_setting() -> None:
    main = {(r.method, r.optim, r.budget, r.precision, r.attention_dropout) for r in _runs("ift_code")}
    for study in ("ift_code.alpha", "ift_code.optimiser", "ift_code.modules", "ift_code.regularisation"):
        assert not main & {(r.method, r.optim, r.budget, r.precision, r.attention_dropout) for r in _runs(study)}
    assert (LoRA(256, 512), 1e-4, 4) in {(r.method, r.optim.lr, r.budget.amount) for r in _runs("ift_code")}


def test_both_optimisers_run_at_every_rate_in_the_configuration_of_the_first_version() -> None:
    runs = _runs("ift_code.optimiser")
    lora = [run for run in runs if isinstance(run.method, LoRA)]
    assert {run.method for run in lora} == {LoRA(64, 32, "all-nogate", 0.05)}
    assert {run.budget.amount for run in runs} == {2}
    for chosen in (lora, [run for run in runs if isinstance(run.method, Full)]):
        adam = {run.optim.lr for run in chosen if isinstance(run.optim, AdamW)}
        lion = {run.optim.lr for run in chosen if not isinstance(run.optim, AdamW)}
        assert adam == set(said.SWEEP_RATES.value)
        # Full fine-tuning with LionW at 5e-5 for two epochs is the setting's own.
        assert adam - lion == (set() if chosen is lora else {5e-5})


def test_modules_are_crossed_with_ranks_and_the_three_lengths_of_the_figure() -> None:
    points = {(r.method.targets, r.method.rank, r.budget.amount) for r in _runs("ift_code.modules")}  # type: ignore[union-attr]
    assert points == set(itertools.product(("attention", "mlp"), (16, 64, 256), (1, 2, 4)))
    assert all(r.method.alpha == 2 * r.method.rank for r in _runs("ift_code.modules"))  # type: ignore[union-attr]


def test_regularisation_is_full_fine_tuning_with_one_thing_changed() -> None:
    runs = _runs("ift_code.regularisation")
    changes = {(run.optim.weight_decay, run.attention_dropout) for run in runs}
    assert changes == {(5e-5, 0), (1e-4, 0), (0, 0.05), (0, 0.1)}
    assert len(runs) == 4 * 5 and {run.method for run in runs} == {Full()}
    assert {run.optim.lr for run in runs} == {said.REGULARISED_RATE.value}


def test_weights_without_masters_are_named_as_such() -> None:
    runs = _runs("ift_code.precision")
    assert all(run.precision == "pure_bf16" and "purebf16" in run.name() for run in runs) and runs


def test_an_unknown_ablation_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no ablation 'ift_code.colour'; .*alpha"):
        ablations.runs("ift_code.colour", PAPER, 0)
