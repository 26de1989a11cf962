"""Models of a known shape with random weights: what a step costs is decided by sizes alone.

The tokenizer is the pocket's, so that nothing has to be fetched. Its words fill the first rows of the embedding; the
output layer is as wide as the real one, which is what the loss costs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from replication.pocket import made, pretrain
from replication.pocket.tokenizer import SPECIAL, save_tokenizer
from replication.shapes import KNOWN, Shape

POSITIONS = 2048


def qwen_shaped() -> Path:
    """The folder of a random model of Qwen2.5-0.5B's shape, 1 GB; made once on a machine."""
    shape = KNOWN["Qwen/Qwen2.5-0.5B"]
    ingredients = {"shape": asdict(shape), "positions": POSITIONS, "seed": 0, "tokenizer": "pocket"}
    return made.folder("qwen2.5-0.5b-random", ingredients, lambda folder: save_random(folder, shape=shape))


def save_random(folder: Path, *, shape: Shape, seed: int = 0) -> None:
    """Write a random Qwen2 of a shape, in bf16, and the pocket tokenizer where from_pretrained reads them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen2ForCausalLM(configuration(shape, POSITIONS)).bfloat16().save_pretrained(str(folder))
    save_tokenizer(pretrain.new_tokenizer(), folder)


def configuration(shape: Shape, positions: int) -> Qwen2Config:
    """A Qwen2 of these sizes."""
    return Qwen2Config(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=positions, tie_word_embeddings=shape.tied, bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("</s>"), pad_token_id=SPECIAL.index("<pad>"),
    )  # fmt: skip
