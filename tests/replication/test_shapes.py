"""Parameter counts against transformers on the meta device, PEFT, and the published numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config

from replication.config import Full, LoRA
from replication.provenance import ROOT
from replication.shapes import KNOWN, Shape, of_model, parameters, targets, trainable

LLAMA = KNOWN["meta-llama/Llama-2-7b-hf"]
SHAPES = {
    "pocket": of_model("replication/pocket/base"),
    "llama7b": LLAMA,
    "llama70b": KNOWN["meta-llama/Llama-2-70b-hf"],
    "qwen": KNOWN["Qwen/Qwen2.5-0.5B"],
    "untied_qwen": Shape(64, 2, 4, 1, 96, 300, tied=False, qkv_bias=True),
    "wide_heads": Shape(64, 2, 4, 2, 96, 300, tied=True, qkv_bias=False, head=32),
}
NAMES = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def empty(shape: Shape) -> PreTrainedModel:
    """The model of a shape by transformers, without memory for its weights."""
    kind = Qwen2Config if shape.qkv_bias else LlamaConfig
    config = kind(
        hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, intermediate_size=shape.intermediate, vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied, **({"head_dim": shape.head} if shape.head else {}),
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "llama70b"])
def test_parameters_are_those_of_transformers(name: str) -> None:
    model = empty(SHAPES[name])
    assert parameters(SHAPES[name]) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["pocket", "llama7b", "qwen", "wide_heads"])
@pytest.mark.parametrize("targeted", ["all", "attention", "mlp", "all-nogate", "mlp-nogate"])
def test_trained_parameters_are_those_of_peft(name: str, targeted: str) -> None:
    method = LoRA(8, 16, targets=targeted)  # type: ignore[arg-type]
    modules = [NAMES.get(linear, f"{linear}_proj") for linear in targets(method)]
    wrapped = get_peft_model(empty(SHAPES[name]), LoraConfig(r=8, target_modules=modules), low_cpu_mem_usage=True)
    expected = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert trainable(SHAPES[name], method) == expected > 0


def test_llama_2_7b_has_the_published_counts() -> None:
    assert parameters(LLAMA) == trainable(LLAMA, Full()) == 6_738_415_616
    assert parameters(SHAPES["llama70b"]) == 68_976_648_192  # its hub page
    counts = [trainable(LLAMA, LoRA(rank, 2 * rank)) for rank in (16, 64, 256)]
    assert counts == [39_976_960, 159_907_840, 639_631_360]
    # 16 x 32 blocks x 4 (4096 + 4096), and 16 x 32 x 3 (4096 + 11008); the paper's sheet: 16.8M and 23.2M.
    assert trainable(LLAMA, LoRA(16, 32, targets="attention")) == 16_777_216
    assert trainable(LLAMA, LoRA(16, 32, targets="mlp")) == 23_199_744
    # Without the gate the adapter is 64.5 MB in bf16 (the authors' released ones).
    assert 2 * trainable(LLAMA, LoRA(16, 32, targets="all-nogate")) == 64_487_424


def test_a_shape_is_read_from_the_folder_of_a_model() -> None:
    content = json.loads((ROOT / "replication/pocket/base/config.json").read_text())
    shape = of_model("replication/pocket/base")
    assert (shape.hidden, shape.layers, shape.vocab) == (
        content["hidden_size"], content["num_hidden_layers"], content["vocab_size"],
    )  # fmt: skip
    assert shape.tied and not shape.qkv_bias
    assert of_model(ROOT / "replication/pocket/base") == shape


def test_an_unknown_model_is_refused_and_never_fetched() -> None:
    with pytest.raises(FileNotFoundError, match="'someone/new-model' are not known.*Llama-2-7b-hf"):
        of_model("someone/new-model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt_neox"}, "gpt_neox"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_size": None}, "hidden_size=None"),
    ],
)
def test_a_model_that_would_be_counted_wrongly_is_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    content = json.loads((ROOT / "replication/pocket/base/config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        of_model(tmp_path)
