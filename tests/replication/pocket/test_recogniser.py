from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq, AutoTokenizer, GenerationConfig

from replication.pocket import recogniser, speech
from replication.pocket.recogniser import Recipe
from tests.replication import speech_models
from tests.replication.speech_models import WORDS

TINY = dataclasses.replace(Recipe(), width=16, encoder=1, heads=2, bands=16, seconds=1, positions=16, steps=3, batch=4)


def test_the_model_is_a_whisper_of_a_few_hundred_thousand_weights() -> None:
    model = recogniser.new_model(speech.DIGITS, Recipe())
    assert 200_000 < sum(p.numel() for p in model.parameters()) < 1_000_000
    assert model.config.max_source_positions * 2 == recogniser.new_extractor(Recipe()).nb_max_frames == 150


def test_a_word_is_a_token_and_the_tokenizer_reads_back_what_it_writes() -> None:
    tokenizer = recogniser.new_tokenizer(speech.DIGITS)
    ids = tokenizer("three five nine")["input_ids"]
    assert ids == [3, 5, 9]
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == "three five nine"
    assert tokenizer("eleven")["input_ids"] == [tokenizer.unk_token_id]
    # What follows the last special token would be a time to transformers.
    assert len(tokenizer) == recogniser.special_ids(speech.DIGITS)[-1] + 1


def test_the_folder_is_in_the_hubs_layout(tmp_path: Path) -> None:
    recogniser.save(tmp_path, recogniser.new_model(WORDS, TINY), WORDS, TINY)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    generation = GenerationConfig.from_pretrained(tmp_path)
    clip = np.zeros(16_000, dtype=np.float32)
    features = extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"]
    ids = model.generate(features, max_new_tokens=3)
    assert ids.shape[0] == 1
    assert tokenizer.convert_ids_to_tokens(generation.decoder_start_token_id) == "<|startoftranscript|>"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"


def test_teaching_lowers_the_loss_and_is_the_same_every_time() -> None:
    clips = speech_models.clips(8)
    recipe = dataclasses.replace(TINY, steps=30, warmup=3)
    before, after, again = (
        recogniser.new_model(WORDS, recipe), recogniser.taught(clips, WORDS, recipe),
        recogniser.taught(clips, WORDS, recipe),
    )  # fmt: skip
    features, reads, labels = recogniser._prepared(clips, WORDS, recipe)
    with torch.no_grad():
        losses = [
            float(torch.nn.functional.cross_entropy(m(features, decoder_input_ids=reads).logits.mT, labels))
            for m in (before, after)
        ]
    assert losses[1] < 0.8 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), again.parameters(), strict=True))


def test_teaching_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    recogniser.taught(speech_models.clips(4), WORDS, TINY)
    assert torch.equal(torch.rand(3), expected)


def test_a_base_is_made_once_and_anew_from_other_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    taught: list[int] = []
    real = recogniser.taught

    def counted(clips: Any, words: Any, recipe: Recipe) -> Any:
        taught.append(len(clips))
        return real(clips, words, recipe)

    monkeypatch.setattr(recogniser, "taught", counted)
    first = recogniser.made("tones", lambda: speech_models.clips(4), WORDS, TINY)
    assert recogniser.made("tones", lambda: speech_models.clips(4), WORDS, TINY) == first
    assert taught == [4]
    assert first.parent == tmp_path / "lora-learns-less" / "models"
    assert recogniser.made("tones", lambda: speech_models.clips(5), WORDS, TINY) != first
    assert recogniser.made("tones", lambda: speech_models.clips(4), WORDS, dataclasses.replace(TINY, seed=1)) != first
    assert taught == [4, 5, 4]
