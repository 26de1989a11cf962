"""The DistilBERT study: its arms are the original's, its splits are apart, its claims can be asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import DistilBertConfig, DistilBertForMaskedLM

from experiments import distilbert, jobs, sides, studies
from experiments.comparisons import Measured
from replication.config import Budget, Full, Head, LoRA, Sentiment, Trapezoid
from replication.models import load_tokenizer
from replication.pocket import tweets
from replication.runs import read_json
from replication.specs import Labels
from replication.train import train

SIZES = ("pocket", "desk")


@pytest.mark.parametrize("size", SIZES)
def test_every_arm_is_trained_for_one_and_for_five_epochs_from_the_start(size: str) -> None:
    runs = sides.arms(distilbert.SCALES[size], seed=0)
    assert list(runs) == ["lora@1", "lora@5", "head@1", "head@5", "full@1", "full@5"]
    for label, run in runs.items():
        assert run.budget == Budget(float(label[-1]), "epochs")
        assert run.branch is None
        assert run.method == {"lora": LoRA(4, 32, "q_lin", 0.01), "head": Head(), "full": Full()}[label[:4]]
        # As the original: AdamW with decay .01, linear to zero, no warm-up.
        assert (run.optim.weight_decay, run.schedule) == (0.01, Trapezoid(0, 1.0))
        assert set(run.evals) == {"tweets", "tweets_validation"}


@pytest.mark.parametrize("size", SIZES)
def test_training_validation_and_test_are_different_splits_of_one_kind(size: str) -> None:
    scale = distilbert.SCALES[size]
    task = scale.settings[0][1].task
    assert isinstance(task, Sentiment)
    wheres = [task.source.where, *(spec.source.where for spec in scale.evals if isinstance(spec, Labels))]
    kinds = {where.split(":")[-1].rsplit("_", 1)[0] for where in wheres}
    assert [where.rsplit("_", 1)[-1] for where in wheres] == ["train", "test", "validation"]
    assert kinds <= {"recorded", "synthetic", "hub"} and len(kinds) == 1
    assert (kinds == {"hub"}) == (size == "desk")
    assert scale.settings[0][1].target_loss == "tweets_validation"


@pytest.mark.parametrize("size", SIZES)
def test_a_rate_is_the_best_of_a_sweep_by_factors_of_two_with_seeds_of_its_own(size: str) -> None:
    scale = distilbert.SCALES[size]
    ((_, setting),) = scale.settings
    for arm, _ in setting.methods:
        swept = dict(scale.sweep_rates)[f"ift/{arm}"]
        assert [b / a for a, b in zip(swept, swept[1:], strict=False)] == pytest.approx([2] * (len(swept) - 1))
        assert swept[0] < setting.rate(arm) < swept[-1]
    seeds = {run.seed for run in studies.runs("learning_rates", scale, seeds=1)}
    assert seeds == {100}


def test_recorded_and_made_up_tweets_are_studies_of_different_digests() -> None:
    digests = {
        run.digest() for kind in ("recorded", "synthetic") for run in sides.arms(distilbert._scale(kind), 0).values()
    }
    assert len(digests) == 12


@pytest.fixture
def hub(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Local copies under the names of the hub: the tweets, and a narrow DistilBERT with the real vocabulary."""
    data, model = tmp_path / tweets.HUB, tmp_path / distilbert.SCALES["desk"].model
    shutil.copytree(shared_data / "sentiment" / "twitter_financial_sentiment", data)
    DistilBertForMaskedLM(DistilBertConfig(dim=8, n_layers=1, n_heads=1, hidden_dim=8)).save_pretrained(model)
    shutil.copy(shared_data / "tokenizers" / "bert_base_uncased_vocab.txt", model / "vocab.txt")
    (model / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    monkeypatch.chdir(tmp_path)
    tweets._hub.cache_clear()
    yield tmp_path
    tweets._hub.cache_clear()


def test_the_desk_study_runs_on_local_copies_under_the_names_of_the_hub(hub: Path) -> None:
    scale = distilbert.SCALES["desk"]
    assert load_tokenizer(scale.model)("Hello, world").input_ids == [101, 7592, 1010, 2088, 102]
    planned = replace(sides.arms(scale, 0)["lora@1"], budget=Budget(3, "steps"))
    folder = train(planned, hub / "runs")
    assert folder.manifest["trainable"] == 4 * (8 + 8) + 8 * 8 + 8 + 3 * 8 + 3
    asked = scale.eval("tweets_validation")
    assert isinstance(asked, Labels)
    done = jobs.score(planned, (replace(asked, seq_len=24),), hub / "runs")
    assert done.error is None
    scores = read_json(next((folder.path / "evals").glob("*/tweets_validation@1/scores.json")))
    found = {metric["name"]: metric for metric in scores["metrics"]}
    assert {metric["n"] for metric in found.values()} == {len(tweets.hub_validation())}
    assert found["majority_accuracy"]["value"] == pytest.approx(0.65, abs=0.01)
    assert found["nats"]["value"] == pytest.approx(1.1, abs=0.1)  # after three steps still about log 3


def test_every_question_is_about_arms_of_the_study_and_every_part_refers_to_one() -> None:
    arms = {*sides.arms(distilbert.POCKET, 0), "base", "majority"}
    names = [question.quantity for question in distilbert.QUESTIONS]
    assert len(set(names)) == len(names)
    assert {arm for q in distilbert.QUESTIONS for arm in (q.left, q.right)} <= arms
    measures = [part.measure for claim in distilbert.CLAIMS for part in claim.parts]
    assert {m.quantity for m in measures if isinstance(m, Measured)} <= set(names)
    assert [claim.id for claim in distilbert.CLAIMS] == ["D1", "D2", "D3"]
