"""The number of weights that should train, counted by hand; models that train less are caught on their way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from replication import methods, optim, shapes
from replication.config import (
    CPT,
    AdaLoRA,
    BitFit,
    Budget,
    Full,
    Head,
    LionW,
    LoRA,
    Method,
    Run,
    S2LoRA,
    Source,
    Trapezoid,
    VeRA,
)
from replication.health import TrainingFailed, check_expected, expected_trainable
from replication.methods import attach
from replication.methods.attached import Attached
from replication.train import train
from tests.replication.sabotage import sabotaged

SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
# Per block: q, o 16 x 16; k, v 16 x 8; gate, up, down 16 x 24. Sums of both sides of each.
ATTENTION, MLP = 2 * 32 + 2 * 24, 3 * 40


def llama(*, tied: bool = True) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=tied))


def whisper() -> PreTrainedModel:
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=20,
            max_target_positions=12, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )
    )  # fmt: skip


def distilbert(*, sinusoids: bool = False) -> PreTrainedModel:
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=12, num_labels=3,
            sinusoidal_pos_embds=sinusoids,
        )
    )  # fmt: skip


def total(model: PreTrainedModel, method: Method) -> int:
    return sum(expected_trainable(model, method).values())


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize("tied", [True, False])
def test_full_fine_tuning_should_train_every_weight_and_a_tied_one_once(tied: bool) -> None:
    shape = shapes.Shape(16, 2, 4, 2, 24, 40, tied=tied, qkv_bias=False)
    assert total(llama(tied=tied), Full()) == shapes.parameters(shape)
    qwen = Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=tied))
    assert total(qwen, Full()) == shapes.parameters(replace(shape, qkv_bias=True))


def test_the_count_does_not_believe_the_flags_of_the_model() -> None:
    model = llama()
    for p in model.parameters():
        p.requires_grad = False
    assert expected_trainable(model, Full()) == expected_trainable(llama(), Full())


def test_what_transformers_computes_once_and_freezes_is_not_expected_to_train() -> None:
    model = whisper()
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["model.encoder.embed_positions.weight"]
    assert total(model, Full()) == sum(p.numel() for p in model.parameters()) - 20 * 16
    whole = sum(p.numel() for p in distilbert().parameters())
    assert (total(distilbert(), Full()), total(distilbert(sinusoids=True), Full())) == (whole, whole - 12 * 16)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (LoRA(4, 8), 4 * 2 * (ATTENTION + MLP)),
        (LoRA(3, 6, targets="attention"), 3 * 2 * ATTENTION),
        (LoRA(3, 6, targets="mlp-nogate"), 3 * 2 * (MLP - 40)),
        (LoRA(2, 4, targets="q_proj+v_proj"), 2 * 2 * (32 + 24)),
        (AdaLoRA(4, 2, alpha=8), 4 * 2 * (ATTENTION + MLP + 7)),
        (VeRA(8), 2 * (7 * 8 + 16 + 8 + 8 + 16 + 24 + 24 + 16)),
        # One pair for each of the shapes 16x16, 8x16, 24x16, 16x24, and r coefficients for each of 14 linears.
        (S2LoRA(4), 4 * (32 + 24 + 40 + 40) + 4 * 14),
        (BitFit(), 0),
        (Head(), 0),
    ],
)
def test_every_method_should_train_what_its_formula_says(method: Method, expected: int) -> None:
    assert total(llama(), method) == expected


def test_a_classifiers_head_is_expected_of_every_method() -> None:
    head = 16 * 16 + 16 + 16 * 3 + 3
    assert total(distilbert(), Head()) == head
    assert total(distilbert(), LoRA(4, 8, targets="q_lin")) == head + 2 * 4 * 32
    biases = sum(p.numel() for name, p in distilbert().named_parameters() if name.endswith(".bias"))
    assert total(distilbert(), BitFit()) == biases + 16 * 16 + 16 * 3


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama, "whisper": whisper, "distilbert": distilbert
}  # fmt: skip
LORAS = (LoRA(4, 8), LoRA(4, 8, targets="attention"), AdaLoRA(4, 2, alpha=8))
ALL = (Full(), *LORAS, S2LoRA(4), VeRA(8), BitFit(), Head())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", [m for m in ALL if type(m) in methods.METHODS], ids=lambda m: m.label())
def test_what_every_method_here_makes_trainable_is_what_the_rule_expects(kind: str, method: Method) -> None:
    if isinstance(method, Head) and kind in ("llama", "whisper") or isinstance(method, BitFit) and kind == "llama":
        pytest.skip("nothing to train there")
    model = MODELS[kind]()
    expected = expected_trainable(model, method)
    attached = attach(model, method, seed=0, steps=10)
    check_expected(attached.trainable, expected, method.label())


def test_the_failure_names_the_missing_group_and_the_counts() -> None:
    # The counts of unslothai/unsloth#1282: 72.44 % of Qwen2.5-0.5B, all but the tied embedding.
    with torch.device("meta"):
        shape = shapes.KNOWN["Qwen/Qwen2.5-0.5B"]
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
                tie_word_embeddings=True,
            )
        )  # fmt: skip
    expected = expected_trainable(model, Full())
    model.model.embed_tokens.weight.requires_grad = False
    with pytest.raises(TrainingFailed, match="should train 494,032,768 weights and trains 357,898,112") as caught:
        check_expected(attach(model, Full(), seed=0).trainable, expected, "full")
    assert str(caught.value).endswith("(72.44%); missing: embed_tokens (136,134,656 of 136,134,656)")


def test_training_more_than_the_method_says_is_a_failure_too() -> None:
    model = llama()
    expected = expected_trainable(model, LoRA(4, 8))
    attached = attach(model, LoRA(4, 8), seed=0)
    extra = attached.trainable | {"lm_head.weight": torch.nn.Parameter(torch.ones(7))}
    with pytest.raises(TrainingFailed, match=r"trained against its rule: lm_head \(7\)"):
        check_expected(extra, expected, "lora")


# ---------------------------------------------------------------- sabotage, through the loop


@pytest.fixture
def run(tiny_model: Path, tiny_corpus: Path) -> Run:
    return Run(
        scale="test", study="health", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model), method=Full(),
        optim=LionW(1e-3), schedule=Trapezoid(0), budget=Budget(4, "steps"), global_batch=4, micro_batch=4, seq_len=32,
    )  # fmt: skip


def test_a_frozen_model_is_caught(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotaged(monkeypatch, lambda model: model.requires_grad_(False))
    with pytest.raises(TrainingFailed, match="frozen"):
        train(run, tmp_path)


def test_an_embedding_that_asks_for_no_gradient_is_caught(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotaged(monkeypatch, lambda model: model.get_input_embeddings().requires_grad_(False))
    with pytest.raises(TrainingFailed, match=r"should train 25,824 weights.*missing: embed_tokens \(8,256 of"):
        train(run, tmp_path)


def test_an_embedding_left_out_of_the_optimiser_is_caught(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = optim.groups_of

    def forgetful(asked: Any, trainable: dict[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
        return real(asked, {name: p for name, p in trainable.items() if "embed_tokens" not in name})

    monkeypatch.setattr(optim, "groups_of", forgetful)
    with pytest.raises(TrainingFailed, match=r"the optimiser lacks 8,256 of .* weights: embed_tokens \(8,256\)"):
        train(run, tmp_path)


def test_an_embedding_whose_gradient_is_detached_is_caught(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detach(model: PreTrainedModel) -> None:
        embedding, head = model.model.embed_tokens, model.lm_head
        embedding.forward = lambda ids: torch.nn.functional.embedding(ids, embedding.weight.detach())
        head.forward = lambda hidden: torch.nn.functional.linear(hidden, head.weight.detach())

    sabotaged(monkeypatch, detach)
    with pytest.raises(TrainingFailed, match="no gradient reaches embed_tokens at step 3"):
        train(run, tmp_path)


def test_a_layer_of_many_whose_adapter_is_frozen_is_caught(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = methods.lora.attach

    def partial(model: PreTrainedModel, method: LoRA, *, seed: int, steps: int) -> Attached:
        attached = real(model, method, seed=seed, steps=steps)
        name = next(n for n in attached.trainable if "layers.1.mlp.up_proj.lora_B" in n)
        attached.trainable[name].requires_grad = False
        return Attached(attached.model, {n: p for n, p in attached.trainable.items() if n != name})

    monkeypatch.setitem(methods.METHODS, LoRA, partial)
    with pytest.raises(TrainingFailed, match=r"missing: mlp\.up_proj\.lora_B \(192 of 384\)"):
        train(replace(run, method=LoRA(4, 8, dropout=0.0)), tmp_path)
