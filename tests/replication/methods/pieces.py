"""Small models of three kinds and what the tests of methods do with them: draw, save, load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from replication.methods.attached import Attached
from replication.methods.merge import load_merged, load_unmerged
from replication.models import Form

KINDS = ("language", "speech", "classifier")
LABELS = 3


def base(kind: str, seed: int = 0) -> PreTrainedModel:
    """A model of two blocks with random weights; its linears have three shapes or more."""
    torch.manual_seed(seed)
    if kind == "language":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.2,
            )
        )  # fmt: skip
    if kind == "speech":
        return WhisperForConditionalGeneration(
            whisper(
                16, 2, vocab_size=32, num_mel_bins=8, init_std=0.2, max_source_positions=8, max_target_positions=16,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, begin_suppress_tokens=None,
            )
        )  # fmt: skip
    config = DistilBertConfig(vocab_size=32, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    config.num_labels = LABELS
    return DistilBertForSequenceClassification(config)


def whisper(width: int, layers: int, **other: Any) -> WhisperConfig:
    """Whisper's shape of a width and depth, as in the sizes of the original: four times as wide inside."""
    heads = width // 64 or 2
    return WhisperConfig(
        d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, encoder_attention_heads=heads, decoder_attention_heads=heads, **other,
    )  # fmt: skip


def question(kind: str) -> dict[str, torch.Tensor]:
    """Inputs of two sequences."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(4, 32, (2, 6), generator=generator)
    if kind == "speech":
        return {"input_features": torch.randn(2, 8, 16, generator=generator), "decoder_input_ids": ids}
    return {"input_ids": ids}


@torch.no_grad()
def answer(model: torch.nn.Module, kind: str) -> torch.Tensor:
    """Logits of the question, without dropout."""
    return model.eval()(**question(kind)).logits


@torch.no_grad()
def shake(attached: Attached, size: float = 0.3) -> None:
    """Move every trained tensor somewhere, as training would."""
    generator = torch.Generator().manual_seed(6)
    for p in attached.trainable.values():
        p.add_(size * torch.randn(p.shape, generator=generator))


def saved(model: PreTrainedModel, attached: Attached, folder: Path) -> Path:
    """Save as a checkpoint does: trained tensors and persistent buffers."""
    folder.mkdir()
    names = {name for name, _ in attached.model.named_buffers(remove_duplicate=False)}
    state = {k: v for k, v in attached.model.state_dict().items() if k in names}
    state |= {name: p.detach().clone() for name, p in attached.trainable.items()}
    attached.model.save_pretrained(str(folder), state_dict=state)  # type: ignore[operator]
    return folder


def loaded(where: Path, folder: Path, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The answers of the adapter in `folder` beside the base and merged into it."""
    form = Form(kind, LABELS if kind == "classifier" else None)  # type: ignore[arg-type]
    beside = answer(load_unmerged(where, folder, form=form), kind)
    return beside, answer(load_merged(where, folder, form=form), kind)
