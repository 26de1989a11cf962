"""The sizes of a model, and from them its parameter counts, before a weight exists or is fetched.

A decoder of the Llama family (h hidden, i intermediate, d head width, a heads of which k hold keys and values,
V vocabulary, L blocks):

    block      q: h x ad   k, v: h x kd   o: ad x h   gate, up: h x i   down: i x h   two norms: h
    model      L blocks + embedding V x h + last norm h + output V x h (none where it is tied to the embedding)

Qwen2 adds a bias to q, k and v. LoRA of rank r on a linear of n_in x n_out trains r (n_in + n_out).
Standard library only, so that planning starts without torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from replication.config import LoRA, Method
from replication.provenance import resolve


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder; `head` is the width of one attention head, hidden / heads where it is 0."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool
    qkv_bias: bool
    head: int = 0

    @property
    def queries(self) -> int:
        """Width of all queries of a token: heads x width of a head."""
        return self.heads * (self.head or self.hidden // self.heads)

    @property
    def keys(self) -> int:
        """Width of all keys of a token, and of all values."""
        return self.kv_heads * (self.head or self.hidden // self.heads)


_LLAMA_7B = Shape(4096, 32, 32, 32, 11008, 32000, tied=False, qkv_bias=False)
_QWEN_HALF_B = Shape(896, 24, 14, 2, 4864, 151_936, tied=True, qkv_bias=True)
# As in the config.json of each; a copy of one of these under another name is planned from its local folder.
KNOWN = {
    "meta-llama/Llama-2-7b-hf": _LLAMA_7B,
    "meta-llama/Llama-2-7b-chat-hf": _LLAMA_7B,
    "NousResearch/Llama-2-7b-hf": _LLAMA_7B,
    "meta-llama/Llama-2-70b-hf": Shape(8192, 80, 64, 8, 28672, 32000, tied=False, qkv_bias=False),
    "Qwen/Qwen2.5-0.5B": _QWEN_HALF_B,
    "python:replication.benchmark_model:qwen_shaped": _QWEN_HALF_B,
}
# What "tie_word_embeddings" means where a config.json leaves it out.
_TIED = {"llama": False, "qwen2": False}


def of_model(where: str | Path) -> Shape:
    """Sizes from the config.json of a local folder, or of a hub id that is known here; nothing is downloaded.

    Raises:
        FileNotFoundError: neither.
        ValueError: a model of another family, whose parameters would be counted wrongly.
    """
    if str(where) in KNOWN:
        return KNOWN[str(where)]
    folder = resolve(str(where))
    if folder is None or not (folder / "config.json").is_file():
        raise FileNotFoundError(f"the sizes of {str(where)!r} are not known: neither a folder with a config.json nor "
                                f"one of {', '.join(KNOWN)}")  # fmt: skip
    return _read(json.loads((folder / "config.json").read_text()), str(where))


def parameters(shape: Shape) -> int:
    """Number of weights; 6,738,415,616 for Llama-2-7b. A tied output layer is the embedding and counts once."""
    linears = sum(n_in * n_out for n_in, n_out in _linears(shape).values())
    biases = shape.queries + 2 * shape.keys if shape.qkv_bias else 0
    ends = shape.vocab * shape.hidden * (1 if shape.tied else 2) + shape.hidden
    return shape.layers * (linears + biases + 2 * shape.hidden) + ends


def trainable(shape: Shape, method: Method) -> int:
    """Number of weights that a method trains; for Llama-2-7b and LoRA on all linears 2,498,560 x rank."""
    if not isinstance(method, LoRA):
        return parameters(shape)
    linears = _linears(shape)
    return shape.layers * method.rank * sum(sum(linears[name]) for name in targets(method))


def targets(method: LoRA) -> tuple[str, ...]:
    """The linears of a block that get an adapter."""
    attention, mlp = ("q", "k", "v", "o"), ("gate", "up", "down")
    part = method.targets.removesuffix("-nogate")
    chosen = {"all": attention + mlp, "attention": attention, "mlp": mlp}[part]
    return tuple(name for name in chosen if name != "gate" or not method.targets.endswith("-nogate"))


def inputs(shape: Shape) -> dict[str, int]:
    """Width of what each linear of a block reads."""
    return {name: n_in for name, (n_in, _) in _linears(shape).items()}


def multiplied(shape: Shape) -> int:
    """Weights that a token is multiplied with: the linears of the blocks and the output layer, tied or not."""
    return shape.layers * sum(n_in * n_out for n_in, n_out in _linears(shape).values()) + shape.vocab * shape.hidden


def _linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear of a block."""
    h, i = shape.hidden, shape.intermediate
    return {
        "q": (h, shape.queries), "k": (h, shape.keys), "v": (h, shape.keys), "o": (shape.queries, h),
        "gate": (h, i), "up": (h, i), "down": (i, h),
    }  # fmt: skip


def _read(content: dict[str, object], where: str) -> Shape:
    family = str(content.get("model_type"))
    odd = [name for name in ("attention_bias", "mlp_bias") if content.get(name)]
    if family not in _TIED or odd:
        raise ValueError(f"{where}: model_type={family!r}{' with ' + ', '.join(odd) if odd else ''}; "
                         f"parameters are counted for {', '.join(_TIED)} only, without those biases")  # fmt: skip

    def size(name: str, default: object = None) -> int:
        value = content.get(name, default)
        if not isinstance(value, int):
            raise ValueError(f"{where}/config.json: {name}={value!r}; expected a whole number")
        return value

    heads = size("num_attention_heads")
    return Shape(
        hidden=size("hidden_size"), layers=size("num_hidden_layers"), heads=heads,
        kv_heads=size("num_key_value_heads", heads), intermediate=size("intermediate_size"), vocab=size("vocab_size"),
        tied=bool(content.get("tie_word_embeddings", _TIED[family])), qkv_bias=family == "qwen2",
        head=size("head_dim", 0) if content.get("head_dim") else 0,
    )  # fmt: skip
