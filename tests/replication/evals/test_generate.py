"""The decode loop against transformers' own, and the sampler against its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from replication.evals.generate import Sampling, TransformersGenerator
from replication.evals.sampling import choose

TEXTS = (
    "Once upon a time",
    "Lily and Ben went to the park. They",
    "One day, a big dog",
    "The",
    "She was so happy that",
)


def encoded(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in TEXTS]


def hf_greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    out = model.generate(ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0)
    return out[0, len(prompt) :].tolist()


def test_greedy_tokens_are_those_of_transformers_in_ragged_batches(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    prompts = encoded(tokenizer)
    answers = TransformersGenerator(model, tokenizer).generate(prompts, Sampling(max_tokens=40))
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        assert list(answer.tokens) == hf_greedy(model, prompt, 40)


def test_tiny_batches_and_pooled_stragglers_give_the_same_answers(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    prompts = encoded(tokenizer) * 3
    sampling = Sampling(n=6, temperature=0.9, top_p=0.95, max_tokens=30, stop=(".", "d"), seed=3)
    whole = TransformersGenerator(model, tokenizer).generate(prompts, sampling)
    parts = TransformersGenerator(model, tokenizer, batch_tokens=450).generate(prompts, sampling)
    assert whole == parts
    assert {c.finish for row in whole for c in row} == {"stop"}
    assert len({len(c.tokens) for row in whole for c in row}) > 5  # of many lengths, so stragglers were pooled


def test_every_sample_equals_one_drawn_alone_from_full_forward_passes(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    prompts = [tokenizer("a")["input_ids"], tokenizer("longer prompt")["input_ids"]]
    sampling = Sampling(n=4, temperature=0.7, top_p=0.9, max_tokens=12, seed=11)
    answers = TransformersGenerator(model, tokenizer).generate(prompts, sampling)
    for p, prompt in enumerate(prompts):
        uniform = np.random.default_rng([11, p]).random((4, 12), dtype=np.float32)
        for s in range(4):
            assert list(answers[p][s].tokens) == alone(model, prompt, uniform[s], sampling)


def alone(model: Any, prompt: list[int], uniform: np.ndarray, sampling: Sampling) -> list[int]:
    """Nucleus sampling written out: one sample, no cache, no batch."""
    tokens: list[int] = []
    for u in uniform.tolist():
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + tokens])).logits[0, -1].double().numpy() / sampling.temperature
        probs = np.exp(logits - logits.max())
        probs /= probs.sum()
        order = np.argsort(-probs)
        reached = np.cumsum(probs[order])
        kept = int(np.searchsorted(reached, sampling.top_p)) + 1
        tokens.append(int(order[np.searchsorted(reached[:kept], u * reached[kept - 1], side="right")]))
        if tokens[-1] == 1:
            break
    return tokens


def test_the_same_call_gives_the_same_answer_and_another_seed_another(generator: TransformersGenerator) -> None:
    prompts = [[5, 6, 7], [8, 9]]
    one, again, other = (
        generator.generate(prompts, Sampling(n=5, temperature=1.0, max_tokens=8, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_a_prompts_samples_do_not_depend_on_the_prompts_after_it(generator: TransformersGenerator) -> None:
    sampling = Sampling(n=5, temperature=1.0, max_tokens=8, seed=1)
    assert generator.generate([[5, 6, 7], [8, 9]], sampling)[0] == generator.generate([[5, 6, 7]], sampling)[0]


def test_text_ends_before_the_first_stop_string_and_says_so(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    (answer,) = TransformersGenerator(model, tokenizer).generate(
        [tokenizer("Once upon a time")["input_ids"]], Sampling(max_tokens=40, stop=(".", "little girl"))
    )[0]
    assert answer.text == ", there was a "
    assert answer.finish == "stop"
    assert len(answer.tokens) < 40


def test_a_completion_keeps_the_space_it_starts_with(stories: tuple[Any, Any]) -> None:
    """SentencePiece strips it when a completion is decoded alone: 'def f():\\n' + 'return' would not parse."""
    model, tokenizer = stories
    prompt = tokenizer("Lily and Ben went to the park. They")["input_ids"]
    (answer,) = TransformersGenerator(model, tokenizer).generate([prompt], Sampling(max_tokens=5))[0]
    assert answer.text.startswith(" ")
    assert not tokenizer.decode(answer.tokens).startswith(" ")


def test_end_of_text_ends_a_completion_and_is_not_in_its_text(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    first = hf_greedy(model, [5, 6, 7], 3)
    saved = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [saved, first[2]]
    try:
        (answer,) = TransformersGenerator(model, tokenizer).generate([[5, 6, 7]], Sampling(max_tokens=9))[0]
    finally:
        model.generation_config.eos_token_id = saved
    assert answer.finish == "eos"
    assert list(answer.tokens) == first[: first.index(first[2]) + 1]
    assert answer.text == tokenizer.decode([5, 6, 7, *[t for t in answer.tokens if t != first[2]]])[3:]


def test_a_completion_ends_at_the_models_context(generator: TransformersGenerator) -> None:
    (answer,) = generator.generate([[5] * 120], Sampling(max_tokens=50))[0]
    assert len(answer.tokens) <= 8
    with pytest.raises(ValueError, match="128 tokens; expected 1 to 127"):
        generator.generate([[5] * 128], Sampling())


def test_drawn_tokens_follow_the_nucleus() -> None:
    """10,000 even quantiles of u land on each kept token in proportion to its probability; the rest is never drawn."""
    probs = np.array([0.05, 0.5, 0.15, 0.3])
    logits = torch.tensor(np.log(probs)[None])
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    owner = torch.zeros(10_000, dtype=torch.long)
    drawn = choose(logits, owner, uniform, temperature=1.0, top_p=0.9)
    counts = np.bincount(drawn.numpy(), minlength=4)
    kept = np.array([0, 0.5, 0.15, 0.3]) / 0.95
    assert np.abs(counts / 10_000 - kept).max() < 2e-3
    assert counts[0] == 0


def test_a_nucleus_wider_than_the_quick_look_is_found_whole() -> None:
    logits = torch.zeros(1, 1000)
    uniform = (torch.arange(5000) + 0.5) / 5000
    drawn = choose(logits, torch.zeros(5000, dtype=torch.long), uniform, temperature=1.0, top_p=1.0)
    assert len(drawn.unique()) == 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"top_p": 0.0, "temperature": 1.0}, "top_p=0.0"),
        ({"n": 2}, "at temperature 0"),
        ({"stop": ("",)}, "empty string"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_log_probabilities_are_those_of_one_forward_pass_each(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(20):
        prefix = rng.integers(3, 500, rng.integers(1, 30)).tolist()
        pairs += [(prefix, rng.integers(3, 500, rng.integers(1, 12)).tolist()) for _ in range(4)]
    pairs += [([1], rng.integers(3, 500, 300).tolist()), ([1, 2], [])]
    found = TransformersGenerator(model, tokenizer, batch_tokens=600).logprobs(pairs)
    for (prefix, option), values in zip(pairs, found, strict=True):
        assert values == pytest.approx(one_by_one(model, prefix, option), abs=1e-4)


def one_by_one(model: Any, prefix: list[int], option: list[int]) -> list[float]:
    with torch.inference_mode():
        logprobs = model(torch.tensor([prefix + option])).logits[0].log_softmax(-1)
    return [float(logprobs[len(prefix) - 1 + i, token]) for i, token in enumerate(option)]


def test_an_empty_prefix_and_a_text_beyond_the_context_are_refused(generator: TransformersGenerator) -> None:
    with pytest.raises(ValueError, match="empty prefix"):
        generator.logprobs([([], [5])])
    with pytest.raises(ValueError, match="context is 128"):
        generator.logprobs([([5] * 100, [5] * 30)])
    assert math.isclose(sum(len(v) for v in generator.logprobs([([5] * 100, [5] * 29)])), 29)
