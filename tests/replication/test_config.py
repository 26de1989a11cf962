"""Names and digests: readable, unique, and changed by everything that decides the weights, by nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiments import studies
from experiments.scales import POCKET
from replication.config import SGD, AdaLoRA, AdamW, Budget, Cosine, LionW, LoRA, Run, encode, number
from replication.encoding import decode


def _run() -> Run:
    return studies.runs("ift_code", POCKET, seeds=1)[0]


def test_a_run_survives_json_and_keeps_its_digest() -> None:
    for run in studies.runs("study", POCKET, seeds=1):
        again = decode(json.loads(json.dumps(encode(run))))
        assert again == run
        assert again.digest() == run.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"seq_len": 64}, {"micro_batch": 8}, {"model": "other"}, {"optim": LionW(1e-5)},
        {"grad_clip": 2.0}, {"schedule": Cosine(warmup=0.2)}, {"budget": Budget(9, "epochs")},
        {"method": LoRA(2, 4)}, {"zero_stage": 1},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_everything_that_decides_the_weights_changes_the_digest(change: dict[str, object]) -> None:
    assert replace(_run(), **change).digest() != _run().digest()  # type: ignore[arg-type]


def test_asking_another_question_does_not_change_the_digest() -> None:
    assert replace(_run(), evals=("another",)).digest() == _run().digest()


def test_names_are_unique_over_all_studies_and_seeds() -> None:
    runs = [*studies.runs("study", POCKET, seeds=3), *studies.runs("learning_rates", POCKET, seeds=1)]
    assert len({run.name() for run in runs}) == len(runs) > 200


@pytest.mark.parametrize(
    ("value", "spelled"),
    [(2e-4, "2e-4"), (0.0002, "2e-4"), (16, "16"), (0.5, "0.5"), (20e9, "20b"), (0.25e9, "250m"), (1.5e-3, "1.5e-3")],
)
def test_a_number_has_one_spelling(value: float, spelled: str) -> None:
    assert number(value) == spelled


def test_a_run_is_named_by_its_axes() -> None:
    run = replace(_run(), method=LoRA(64, 128), optim=LionW(2e-4), budget=Budget(4, "epochs"))
    assert run.name() == "ift_code/lora-r64-all-lr2e-4-ep4-s0"


def test_an_unknown_field_or_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no field 'ranc'"):
        decode({"kind": "LoRA", "ranc": 3})
    with pytest.raises(ValueError, match="unknown kind 'Dora'"):
        decode({"kind": "Dora"})


@pytest.mark.parametrize(
    "bad", [{"seed": -1}, {"seq_len": 0}, {"precision": "fp8"}, {"zero_stage": 4}, {"grad_clip": 0}]
)
def test_a_value_out_of_range_is_refused_with_its_name_and_value(bad: dict[str, object]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"Run.{name}={value!r}"):
        replace(_run(), **bad)  # type: ignore[arg-type]


def test_what_sets_an_ablation_apart_stands_in_its_name_and_in_its_variant() -> None:
    changes: dict[str, dict[str, object]] = {
        "": {}, "adamw": {"optim": AdamW(6e-4)}, "sgd": {"optim": SGD(6e-4)}, "ad0.1": {"attention_dropout": 0.1},
        "wd1e-4": {"optim": LionW(6e-4, weight_decay=1e-4)},
        "adamw-wd1e-4": {"optim": AdamW(6e-4, weight_decay=1e-4)},
    }  # fmt: skip
    made = {variant: replace(_run(), **change) for variant, change in changes.items()}  # type: ignore[arg-type]
    assert [run.variant() for run in made.values()] == list(changes)
    assert all(part in run.name() for variant, run in made.items() for part in variant.split("-wd"))
    assert len({run.name() for run in made.values()}) == len(made)
    assert decode(json.loads(json.dumps(encode(made["sgd"])))) == made["sgd"]


def test_an_adalora_that_is_not_as_usual_says_so_in_its_name() -> None:
    usual = AdaLoRA(8, 4, alpha=16)
    assert usual.label() == "adalora-r8to4-all"
    assert replace(usual, alpha=8).label() == "adalora-r8to4-all-a8"
    assert replace(usual, warm=0.2, every=5).label() == "adalora-r8to4-all-t0.2x0.3x5"
    assert replace(usual, orthogonality=0.1).label() == "adalora-r8to4-all-o0.1"
