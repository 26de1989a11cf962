from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

from replication.config import ASR, AdamW, Budget, Cosine, Full, LoRA, Method, Run, Source
from replication.data import audio, transcripts
from replication.evals import evaluate
from replication.evals.transcriber import Transcriber
from replication.models import Form, Weights
from replication.specs import Words
from replication.tasks import Stream, asr, open_stream
from replication.train import train
from tests.replication import speech_models
from tests.replication.speech_models import END, PLAIN, START

TRAIN = Source("python:tests.replication.speech_models:train")


def run_of(model: Path, *, seq_len: int = 8, method: Method | None = None, **fields: object) -> Run:
    task = ASR(TRAIN, language=str(fields.pop("language")) if "language" in fields else None)
    return Run(
        scale="test", study="speech", task=task, model=str(model), method=method or Full(), optim=AdamW(2e-3),
        schedule=Cosine(), budget=Budget(2, "epochs"), global_batch=4, micro_batch=2, seq_len=seq_len, **fields,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_models.save(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_models.multilingual(tmp_path_factory.mktemp("multilingual"))


def opened(run: Run, cache: Path) -> Stream:
    return open_stream(run, AutoTokenizer.from_pretrained(run.model), cache=cache)


def test_a_stream_holds_features_and_shifted_tokens_of_every_clip(model: Path, tmp_path: Path) -> None:
    stream = opened(run_of(model), tmp_path)
    rows = speech_models.train()
    assert stream.size == len(rows)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for i in (0, 5, 11):
        found = stream.sequence(i)
        words = tokenizer(rows[i]["text"])["input_ids"]
        prompt = [START, PLAIN]
        expected = [*prompt, *words]
        assert found["input_features"].shape == (16, 50)
        assert found["decoder_input_ids"].tolist() == expected + [END] * (8 - len(expected))
        assert found["labels"].tolist() == [-100, *words, END] + [-100] * (6 - len(words))
        assert stream.real[i] == len(expected)


def test_features_are_made_once_and_read_from_disk(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(run_of(model), tmp_path).sequence(3)["input_features"]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("features were made again")

    monkeypatch.setattr(audio, "log_mel", refuse)
    again = opened(run_of(model, seed=5), tmp_path).sequence(3)["input_features"]
    assert np.array_equal(first, again)
    assert not list(tmp_path.glob("*.partial"))


def test_a_failed_preparation_leaves_nothing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"transcript of clip 'clip\d+' takes \d positions"):
        opened(run_of(model, seq_len=4), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_clips_that_are_too_long_are_left_out_where_the_task_says_so(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(model, seq_len=4)  # prompt and two words
    run = replace(run, task=replace(run.task, too_long="leave out"))
    stream = opened(run, tmp_path)
    kept = [row for row in speech_models.train() if len(row["text"].split()) <= 2]
    assert 0 < stream.size == len(kept) < 12
    assert f"left out {12 - len(kept)} clips" in caplog.text
    heard = AutoFeatureExtractor.from_pretrained(model)
    for i, row in enumerate(kept):
        expected = audio.log_mel(heard, row["audio"], name=row["id"])
        assert np.array_equal(stream.sequence(i)["input_features"], expected)


def test_a_task_that_keeps_no_clip_is_an_error(model: Path, tmp_path: Path) -> None:
    run = run_of(model, seq_len=1)
    run = replace(run, task=replace(run.task, too_long="leave out"))
    with pytest.raises(ValueError, match="all 12 clips of .* are too long"):
        opened(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_cache_is_named(model: Path, tmp_path: Path) -> None:
    opened(run_of(model), tmp_path)
    (path,) = tmp_path.glob("*/features.raw")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"features\.raw is not what was written"):
        opened(run_of(model), tmp_path)


def test_another_language_is_another_digest(multilingual: Path, tmp_path: Path) -> None:
    english, hindi = (opened(run_of(multilingual, language=name), tmp_path) for name in ("english", "hi"))
    assert english.digest != hindi.digest
    assert english.sequence(0)["decoder_input_ids"][:4].tolist() == [START, 8, 10, PLAIN]
    assert hindi.sequence(0)["decoder_input_ids"][:4].tolist() == [START, 9, 10, PLAIN]
    assert hindi.sequence(0)["labels"][:3].tolist() == [-100] * 3


def test_the_loss_is_that_of_transformers(multilingual: Path, tmp_path: Path) -> None:
    stream = opened(run_of(multilingual, language="hindi"), tmp_path)
    network = WhisperForConditionalGeneration.from_pretrained(multilingual).eval()
    batch = {key: torch.from_numpy(value[None]) for key, value in stream.sequence(2).items()}
    with torch.no_grad():
        summed, count = stream.objective.loss(network, batch)
    assert count == stream.objective.supervised(batch) == int((batch["labels"] >= 0).sum())
    # Given labels without a mask on the prompt, transformers shifts them itself; without the prompt's share it agrees.
    words = batch["labels"][batch["labels"] != transcripts.IGNORED]
    whole = torch.cat([torch.tensor([9, 10, PLAIN]), words])[None]
    with torch.no_grad():
        theirs, direct = network(input_features=batch["input_features"], labels=whole), network(**batch)
    prompt = torch.nn.functional.cross_entropy(theirs.logits[0, :3], whole[0, :3], reduction="sum")
    assert float(summed) == pytest.approx(float(theirs.loss * whole.numel() - prompt), rel=1e-5)
    # And with the same inputs and labels directly.
    assert float(summed) / count == pytest.approx(float(direct.loss), rel=1e-6)


def test_padding_does_not_change_the_loss(model: Path, tmp_path: Path) -> None:
    network = WhisperForConditionalGeneration.from_pretrained(model).eval()
    found = []
    for seq_len in (8, 20):
        stream = opened(run_of(model, seq_len=seq_len), tmp_path)
        batch = {key: torch.from_numpy(value[None]) for key, value in stream.sequence(1).items()}
        with torch.no_grad():
            found.append(float(stream.objective.loss(network, batch)[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_features_go_in_as_the_weights_compute() -> None:
    seen = []

    def forward(**inputs: torch.Tensor) -> object:
        seen.append(inputs["input_features"].dtype)
        return type("Out", (), {"logits": torch.zeros(1, 2, 5)})

    batch = {"input_features": torch.zeros(1, 3, 4), "decoder_input_ids": torch.zeros(1, 2)}
    batch["labels"] = torch.ones(1, 2).long()
    asr.loss(forward, batch, dtype=torch.bfloat16)
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize("method", [Full(), LoRA(2, alpha=4, targets="q_proj+v_proj", dropout=0.0)])
def test_a_run_learns_its_clips_and_is_asked_for_words(model: Path, tmp_path: Path, method: Method) -> None:
    run = run_of(model, method=method)
    folder = train(run, tmp_path)
    checkpoint = folder.checkpoints()[-1]
    spec = Words("wer", TRAIN, max_tokens=8, batch=5)
    before, after = (
        evaluate(spec, Transcriber(Weights(str(model), tuned, Form("speech"))), 0) for tuned in (None, checkpoint)
    )
    assert after.value("nats_per_token") < before.value("nats_per_token") - 0.02


def test_more_tokens_than_the_decoder_reads_are_refused_before_training(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Run\.seq_len=40; the decoder of .* reads 32 tokens at most"):
        train(replace(run_of(model), seq_len=40), tmp_path)
