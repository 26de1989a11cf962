"""Which linears get an adapter, on a Llama of two small blocks."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from replication.config import LoRA
from replication.methods.lora import attach, target_modules

ATTENTION = ["self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj"]
HIDDEN, WIDE, LAYERS = 16, 24, 2


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return LlamaForCausalLM(_config())


def _config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32, hidden_size=HIDDEN, intermediate_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=2
    )


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("all", ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", *ATTENTION]),
        ("attention", ATTENTION),
        ("mlp", ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj"]),
        ("all-nogate", ["mlp.down_proj", "mlp.up_proj", *ATTENTION]),
        ("mlp-nogate", ["mlp.down_proj", "mlp.up_proj"]),
    ],
)
def test_the_targets_of_a_llama(model: LlamaForCausalLM, targets: str, expected: list[str]) -> None:
    assert target_modules(model, targets) == expected


def test_without_the_gate_an_adapter_has_that_many_parameters_fewer() -> None:
    counts = {}
    for targets in ("all", "all-nogate"):
        attached = attach(LlamaForCausalLM(_config()), LoRA(4, 8, targets=targets), seed=0, steps=1)
        counts[targets] = sum(p.numel() for p in attached.model.parameters() if p.requires_grad)
    assert counts["all"] == LAYERS * 4 * (4 * 2 * HIDDEN + 3 * (HIDDEN + WIDE))
    assert counts["all"] - counts["all-nogate"] == LAYERS * 4 * (HIDDEN + WIDE)


def test_a_model_without_a_gate_cannot_leave_it_out() -> None:
    blocks = torch.nn.ModuleDict(
        {"0": torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict({"fc": torch.nn.Linear(2, 2)})})}
    )
    with pytest.raises(ValueError, match="no linear is called that"):
        target_modules(blocks, "mlp-nogate")


def test_where_two_linears_share_the_end_of_their_names_only_the_one_asked_for_gets_an_adapter() -> None:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    bert = BertForSequenceClassification(BertConfig(vocab_size=32, **sizes))
    names = [*attach(bert, LoRA(2, 4, targets="attention"), seed=0, steps=1).trainable]
    adapted = {name.split(".layer.")[1].split(".lora_")[0] for name in names if ".lora_" in name}
    linears = ("self.query", "self.key", "self.value", "output.dense")
    assert adapted == {f"{layer}.attention.{linear}" for layer in range(LAYERS) for linear in linears}
