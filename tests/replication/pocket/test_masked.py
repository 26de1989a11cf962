"""The small DistilBERT: its vocabulary, what is masked, that it learns from texts, and that it is made once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from replication.data.labelled import encode
from replication.pocket import made, masked

TINY = masked.Recipe(
    words=60, pieces=20, width=32, layers=1, hidden=32, length=12, epochs=30, batch=8, rate=1e-2, matrix_rate=3e-2,
    warmup=5,
)  # fmt: skip
# Two kinds of sentences whose words go together.
TEXTS = [
    f"{a} {b} {c}"
    for first, second, third in (
        (("profit", "sales", "output"), ("rises", "jumps", "climbs"), ("again", "sharply", "today")),
        (("rain", "snow", "fog"), ("settles", "spreads", "lingers"), ("north", "inland", "overnight")),
    )
    for a in first
    for b in second
    for c in third
]


def test_the_vocabulary_by_hand() -> None:
    counts = Counter({"aab": 5, "ab": 3, "abab": 2})
    found = masked.vocabulary(counts, words=2, pieces=2)
    # Letters saved in the one word that is not listed ("abab", as types are counted once): abab 3, then three letters.
    assert found == [*masked.SPECIAL, "a", "b", "##a", "##b", "aab", "ab", "abab", "##bab"]


def test_a_text_is_spelled_in_lower_case_between_its_marks() -> None:
    tokenizer = masked.new_tokenizer(TEXTS, TINY)
    words = tokenizer.convert_ids_to_tokens(tokenizer("Profit RISES again?").input_ids)
    assert words == ["[CLS]", "profit", "rises", "again", "[UNK]", "[SEP]"]
    assert set(tokenizer("profit")) == {"input_ids", "attention_mask"}


def test_masking_takes_its_share_and_never_the_marks() -> None:
    rng = np.random.default_rng(0)
    ids = np.tile([2, *range(5, 25), 3, 0, 0], (500, 1))
    read, asked = masked.masked(ids, 40, 0.3, rng)
    assert asked[:, 1:21].mean() == pytest.approx(0.3, abs=0.015)
    assert not asked[:, [0, 21, 22, 23]].any()
    assert (read[~asked] == ids[~asked]).all()
    assert (read[asked] == masked.MASK).mean() == pytest.approx(0.8, abs=0.03)
    # One in ten stays, and a few of the others are drawn as they were.
    assert (read[asked] == ids[asked]).mean() == pytest.approx(0.1, abs=0.03)
    assert read[asked].max() < 40


def test_the_loss_is_that_of_the_words_at_their_places_and_at_cls() -> None:
    tokenizer = masked.new_tokenizer(TEXTS, TINY)
    ids = torch.from_numpy(encode(TEXTS[:4], tokenizer, seq_len=12).ids)
    model = masked.new_model(ids.numpy(), len(tokenizer), TINY)
    read, asked = masked.masked(ids.numpy(), len(tokenizer), 0.5, np.random.default_rng(1))
    with torch.no_grad():
        found = masked.masked_loss(model, torch.from_numpy(read), ids, torch.from_numpy(asked))
        logits = model(torch.from_numpy(read), attention_mask=(ids != 0).long()).logits
        own = [functional.cross_entropy(logits[i, j], ids[i, j]) for i, j in zip(*np.nonzero(asked), strict=True)]
        whole = [functional.cross_entropy(logits[i, 0], ids[i, j]) for i, j in zip(*np.nonzero(asked), strict=True)]
    assert len(own) > 3
    assert float(found) == pytest.approx(float(torch.stack([*own, *whole]).mean()), rel=1e-5)


def test_a_new_model_knows_how_often_a_word_occurs_and_a_pretrained_one_what_goes_with_it() -> None:
    tokenizer = masked.new_tokenizer(TEXTS, TINY)
    ids = encode(TEXTS, tokenizer, seq_len=12).ids
    model = masked.pretrained(TEXTS, tokenizer, TINY)
    questions = [("profit [MASK] today", "rises jumps climbs"), ("fog [MASK] inland", "settles spreads lingers")]
    for model_, least, most in ((masked.new_model(ids, len(tokenizer), TINY), 0.0, 0.3), (model, 0.6, 1.0)):
        for text, fitting in questions:
            with torch.no_grad():
                shares = model_(**tokenizer(text, return_tensors="pt")).logits[0, 2].softmax(-1)
            share = float(shares[tokenizer.convert_tokens_to_ids(fitting.split())].sum())
            assert least <= share <= most, (text, share)


def test_pretraining_repeats_to_the_last_bit_and_leaves_the_global_state() -> None:
    recipe = masked.Recipe(words=60, pieces=20, width=16, hidden=16, length=12, epochs=1, batch=8)
    tokenizer = masked.new_tokenizer(TEXTS, recipe)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first, second = (masked.pretrained(TEXTS, tokenizer, recipe).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_is_made_once_in_the_hubs_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe = masked.Recipe(words=60, pieces=20, width=16, hidden=16, length=12, epochs=1, batch=8)
    folder = masked.made("tweets", TEXTS, recipe)
    assert folder.parent == tmp_path / "lora-learns-less" / "models"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert masked.made("tweets", TEXTS, recipe) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert masked.made("tweets", TEXTS[1:], recipe) != folder
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model(**tokenizer("profit rises", return_tensors="pt")).logits.shape == (1, 3)
    assert tokenizer.truncation_side == "left"


def test_a_model_whose_making_failed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        made.folder("m", {"seed": 1}, fail)
    found = made.folder("m", {"seed": 1}, lambda folder: (folder / "whole").write_text("") and None)
    assert [path.name for path in found.iterdir()] == ["whole"]


def test_another_recipe_in_code_makes_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = []
    for steps in (1, 2):
        file = tmp_path / "recipe.py"
        file.write_text(f"def make(folder): (folder / 'model').write_text('{steps} steps')")
        names: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), names)
        found.append(made.folder("m", {"seed": 1}, names["make"]))
    assert [(folder / "model").read_text() for folder in found] == ["1 steps", "2 steps"]
