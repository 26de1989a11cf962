from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from replication.config import Source
from replication.evals import decode_speed, evaluate, transcriber
from replication.evals.transcriber import Transcriber
from replication.method import LoRA
from replication.methods import attach
from replication.models import Form, Weights, load_model
from replication.specs import DecodeSpeed
from tests.replication import speech_models

TEST = Source("python:tests.replication.speech_models:test")
SPEECH = Form("speech")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_models.save(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    wrapped: Any = attach(load_model(base, form=SPEECH), LoRA(2, alpha=4, targets="q_proj+v_proj"), seed=0).model
    wrapped.save_pretrained(folder)
    return folder


def test_speeds_and_ratios_are_of_a_turn() -> None:
    times = [{"merged": 2.0, "unmerged": 4.0, "base": 1.0}, {"merged": 1.0, "unmerged": 2.0, "base": 1.0}]
    found = decode_speed.result(times, 100)
    values = {metric.name: metric.value for metric in found.metrics}
    assert values == {
        "tokens_per_s_merged": 75.0, "tokens_per_s_unmerged": 37.5, "tokens_per_s_base": 100.0,
        "merged_over_base": 0.75, "lost_merged": 0.25, "unmerged_over_base": 0.375, "lost_unmerged": 0.625,
    }  # fmt: skip
    assert found.items[3].values == (0.5, 1.0)
    assert found.items[3].ids == ("turn0", "turn1")


def test_an_adapter_is_timed_merged_and_beside_the_weights(base: Path, adapter: Path) -> None:
    spec = DecodeSpeed("speed", TEST, tokens=3, batch=2, turns=2)
    found = evaluate(spec, Transcriber(Weights(str(base), adapter, SPEECH)), 0)
    names = {metric.name for metric in found.metrics}
    assert {"tokens_per_s_unmerged", "unmerged_over_base", "merged_over_base"} < names
    assert all(metric.n == 2 for metric in found.metrics)


def test_a_full_checkpoint_has_nothing_beside_its_weights(base: Path) -> None:
    spec = DecodeSpeed("speed", TEST, tokens=3, batch=2, turns=2)
    for tuned in (None, base):
        found = evaluate(spec, Transcriber(Weights(str(base), tuned, SPEECH)), 0)
        assert not [m.name for m in found.metrics if "unmerged" in m.name]
        assert found.value("merged_over_base") > 0


def test_an_adapter_beside_the_weights_writes_what_the_merged_model_writes(base: Path, adapter: Path) -> None:
    reader = Transcriber(Weights(str(base), adapter, SPEECH))
    rows = speech_models.clips(4)
    heard = next(transcriber.batches(rows, reader.extractor(), names=[row["id"] for row in rows], size=4))
    unmerged, asked = reader.unmerged(), reader.conventions(None)
    assert unmerged is not None
    both = [transcriber.write(model, heard, asked, max_tokens=8) for model in (reader.merged(), unmerged)]
    assert both[0] == both[1]


class Slow(torch.nn.Module):
    """The model inside, after work of its own."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0
        self.config = model.config

    def forward(self, **inputs: Any) -> Any:
        self.calls += 1
        until = time.process_time() + 0.01
        while time.process_time() < until:
            pass
        return self.model(**inputs)


def test_a_slower_model_is_measured_slower_and_each_writes_every_token(base: Path) -> None:
    reader = Transcriber(Weights(str(base), None, SPEECH))
    rows = speech_models.clips(2)
    heard = next(transcriber.batches(rows, reader.extractor(), names=["a", "b"], size=2))
    slow = Slow(reader.untuned())
    models = {"merged": slow, "base": reader.untuned()}
    found = decode_speed.fastest(models, heard, reader.conventions(None), tokens=5, first=0, passes=2)
    assert slow.calls == 10
    assert found["merged"] - found["base"] == pytest.approx(0.05, abs=0.02)


def test_too_few_clips_for_a_batch_are_an_error(base: Path) -> None:
    with pytest.raises(ValueError, match="10 clips in .* and a batch is 11"):
        evaluate(DecodeSpeed("speed", TEST, batch=11), Transcriber(Weights(str(base), None, SPEECH)), 0)
