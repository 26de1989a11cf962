"""A classifier's head: counts at the original's size, what is stored of it, and that it answers again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from replication import checkpoints
from replication.config import AdamW, Budget, Full, Head, LoRA, Method, Run, Sentiment, Source, Trapezoid
from replication.methods import attach
from replication.methods.merge import load_merged
from replication.models import Form, form_of, load_model
from replication.pocket import masked
from replication.train import train

ORIGINAL = LoRA(4, 32, targets="q_lin", dropout=0.01)
TEXTS = [f"{what} {how}" for what in ("profit", "costs", "sales", "debt") for how in ("rises", "falls", "on monday")]


def distilbert_base() -> DistilBertForSequenceClassification:
    """distilbert-base-uncased with three classes: shapes alone."""
    with torch.device("meta"):
        return DistilBertForSequenceClassification(DistilBertConfig(num_labels=3))


def count(model: torch.nn.Module, *words: str) -> int:
    """Trained weights, of those parameters only whose names hold one of the words."""
    named = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    return sum(size for name, size in named if not words or any(word in name for word in words))


def test_loras_counts_are_the_originals() -> None:
    attached = attach(distilbert_base(), ORIGINAL, seed=0)
    assert count(attached.model, "lora_") == 6 * 4 * (768 + 768) == 36_864
    assert count(attached.model, "classifier") == 592_899
    assert count(attached.model) == sum(p.numel() for p in attached.trainable.values()) == 629_763
    # The original's 0.9318 % is of all weights with PEFT's second copy of the head among them.
    assert sum(p.numel() for p in attached.model.parameters()) == 67_585_542


def test_the_head_alone_has_the_rest() -> None:
    attached = attach(distilbert_base(), Head(), seed=0)
    assert count(attached.model) == sum(p.numel() for p in attached.trainable.values()) == 592_899
    assert {name.split(".")[-2] for name in attached.trainable} == {"pre_classifier", "classifier"}


def test_a_model_without_a_head_is_refused() -> None:
    tiny = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    with pytest.raises(ValueError, match="LlamaForCausalLM has no head of its own"):
        attach(LlamaForCausalLM(tiny), Head(), seed=0)


# ---------------------------------------------------------------- by the loop itself


def rows() -> list[dict[str, object]]:
    """Twelve texts in three classes."""
    return [{"text": text, "label": i % 3} for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    recipe = masked.Recipe(words=30, pieces=10, width=16, hidden=16, length=12)
    tokenizer = masked.new_tokenizer(TEXTS, recipe)
    masked.new_model(np.array([[2, 5, 3]]), len(tokenizer), recipe).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(base: Path, method: Method, seed: int = 3) -> Run:
    task = Sentiment(Source("python:tests.replication.methods.test_head:rows"), 3)
    return Run(
        "t", "tweets", task, str(base), method, AdamW(2e-2, weight_decay=0.01), Trapezoid(0, 1.0), Budget(6, "epochs"),
        global_batch=4, seq_len=8, micro_batch=2, seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("method", [ORIGINAL, Head(), Full()], ids=lambda m: m.label())
def test_a_trained_classifier_answers_the_same_from_its_checkpoint(
    method: Method, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: dict[str, np.ndarray] = {}
    save = checkpoints.save

    def also_answer(folder, engine, meta, **how):  # type: ignore[no-untyped-def]
        ids = torch.tensor([[2, 6, 7, 3], [2, 8, 3, 0]])
        with torch.no_grad():
            live["logits"] = engine.model.eval()(input_ids=ids, attention_mask=(ids != 0).long()).logits.numpy()
        engine.model.train()
        return save(folder, engine, meta, **how)

    monkeypatch.setattr(checkpoints, "save", also_answer)
    planned = run(base, method)
    folder = train(planned, tmp_path)
    checkpoint = folder.checkpoints()[-1]
    ids = torch.tensor([[2, 6, 7, 3], [2, 8, 3, 0]])
    again = load_merged(base, checkpoint, form=form_of(planned)).eval()
    with torch.no_grad():
        answered = again(input_ids=ids, attention_mask=(ids != 0).long()).logits.numpy()
    assert np.abs(answered - live["logits"]).max() < 1e-6
    untuned = load_model(base, form=form_of(planned)).eval()
    with torch.no_grad():
        before = untuned(input_ids=ids, attention_mask=(ids != 0).long()).logits.numpy()
    assert np.abs(answered - before).max() > 0.01


def test_what_is_stored_is_what_was_trained(base: Path, tmp_path: Path) -> None:
    stored = {}
    for method in (ORIGINAL, Head(), Full()):
        checkpoint = train(run(base, method), tmp_path).checkpoints()[-1]
        stored[method.label()] = {k: v.numel() for k, v in checkpoints.stored_weights(checkpoint)}
    head = 16 * 16 + 16 + 3 * 16 + 3
    assert sum(stored["head"].values()) == head
    assert sum(stored[ORIGINAL.label()].values()) == head + 2 * 4 * (16 + 16)
    names = [name for name in stored[ORIGINAL.label()] if "lora_" not in name]
    assert sorted(name.removeprefix("base_model.model.") for name in names) == [
        "classifier.bias", "classifier.weight", "pre_classifier.bias", "pre_classifier.weight",
    ]  # fmt: skip
    whole = load_model(base, form=Form("classifier", 3))
    assert sum(stored["full"].values()) == sum(p.numel() for p in whole.parameters())


def test_a_checkpoint_whose_head_differs_is_refused(base: Path, tmp_path: Path) -> None:
    planned = run(base, ORIGINAL)
    checkpoint = train(planned, tmp_path).checkpoints()[-1]
    stored = dict(checkpoints.stored_weights(checkpoint))
    live = {
        name.replace("lora_A.", "lora_A.default.")
        .replace("lora_B.", "lora_B.default.")
        .replace("classifier.", "classifier.modules_to_save.default."): value.clone()
        for name, value in stored.items()
    }
    checkpoints.check(checkpoint, live)
    name = "base_model.model.classifier.modules_to_save.default.weight"
    with pytest.raises(RuntimeError, match="another value of base_model.model.classifier.weight"):
        checkpoints.check(checkpoint, live | {name: live[name] + 1})


def test_another_seed_draws_another_head(base: Path) -> None:
    forms = [form_of(run(base, Head(), seed)) for seed in (3, 3, 4)]
    heads = [load_model(base, form=form).classifier.weight for form in forms]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
