"""LoRA over a base whose linears are held in 8 bits, as the Whisper tutorial trained it; bitsandbytes on a CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from peft import PeftModel

from replication import models
from replication.config import ASR, AdamW, BitFit, Budget, Cosine, Full, LoRA, Run, Sentiment, Source
from replication.evals.transcriber import Transcriber
from replication.methods.merge import load_merged
from replication.models import Form, Weights, form_of, load_model
from replication.train import train
from tests.replication import speech_models

SPEECH = Form("speech")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_models.save(tmp_path_factory.mktemp("whisper"))


def tuning(base: Path) -> Run:
    return Run(
        scale="test", study="bits", task=ASR(Source("python:tests.replication.speech_models:train")), model=str(base),
        method=LoRA(2, alpha=4, targets="q_proj+v_proj", dropout=0.0), optim=AdamW(1e-2), schedule=Cosine(),
        budget=Budget(6, "steps"), global_batch=4, micro_batch=4, seq_len=8,
    )  # fmt: skip


def eights(model: torch.nn.Module) -> int:
    return sum(isinstance(module, Linear8bitLt) for module in model.modules())


def losses(run: Run, root: Path) -> list[float]:
    lines = (train(run, root).path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_every_linear_but_the_output_layer_is_held_in_8_bits_and_computes_about_the_same(base: Path) -> None:
    whole, short = (load_model(base, form=form).eval() for form in (SPEECH, replace(SPEECH, bits=8)))
    linears = [m for m in short.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linears) == eights(short) + 1 == sum(isinstance(m, torch.nn.Linear) for m in whole.modules())
    shape = (2, whole.config.num_mel_bins, 2 * whole.config.max_source_positions)
    heard = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    asked = {"input_features": heard, "decoder_input_ids": torch.tensor([[12, 1], [12, 2]]), "use_cache": False}
    expected, found = whole(**asked).logits, short(**asked).logits
    error = (found - expected).norm() / expected.norm()
    # Rows of 16 weights in steps of 1/127 of their largest, through three blocks: .02 to .075 over twelve such inputs.
    assert 0 < error < 0.1


@pytest.mark.parametrize(("precision", "stage"), [("fp32", 0), ("bf16", 1)])
def test_training_over_8_bits_is_near_training_over_whole_weights(
    base: Path, tmp_path: Path, precision: str, stage: int
) -> None:
    whole = replace(tuning(base), precision=precision, zero_stage=stage)  # type: ignore[arg-type]
    short = replace(whole, base_bits=8)
    expected, found = losses(whole, tmp_path), losses(short, tmp_path)
    assert found[-1] < found[0]
    assert found == pytest.approx(expected, rel=0.05) and found != expected


def test_its_adapter_is_merged_into_the_whole_base_and_stands_beside_the_8_bits(base: Path, tmp_path: Path) -> None:
    run = replace(tuning(base), base_bits=8)
    checkpoint = train(run, tmp_path).checkpoints()[-1]
    merged = load_merged(base, checkpoint, form=form_of(run))
    assert eights(merged) == 0
    plain = PeftModel.from_pretrained(load_model(base, form=SPEECH), str(checkpoint)).merge_and_unload()
    for (name, ours), theirs in zip(merged.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    reader = Transcriber(Weights(str(base), checkpoint, form_of(run)))
    beside = reader.unmerged()
    assert beside is not None and eights(beside) > 0
    assert eights(reader.untuned()) == 0


def test_a_run_over_8_bits_has_a_name_and_a_digest_of_its_own_and_others_keep_theirs(base: Path) -> None:
    run = tuning(base)
    short = replace(run, base_bits=8)
    assert short.name() == "bits/lora-r2-q_proj+v_proj-adamw-lr1e-2-int8-st6-s0"
    assert short.digest() != run.digest() == replace(run, base_bits=None).digest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": Full()}, "base_bits=8; expected for LoRA"),
        ({"method": BitFit()}, "base_bits=8; expected for LoRA"),
        ({"task": Sentiment(Source("tweets"), labels=3)}, "base_bits=8; expected for LoRA, without a new head"),
        ({"zero_stage": 3}, "base_bits=8; expected for LoRA, without a new head, up to ZeRO-2"),
        ({"base_bits": 4}, "base_bits=4; expected 8"),
    ],
)
def test_8_bits_under_what_would_train_or_cut_up_the_base_are_refused(
    base: Path, change: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        replace(replace(tuning(base), base_bits=8), **change)  # type: ignore[arg-type]


def test_without_bitsandbytes_the_error_says_how_to_install_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"pip install -e '\.\[int8\]'"):
        load_model(base, form=replace(SPEECH, bits=8))
