"""What the shipped base is made of: its architecture, its data mixture, and the measured recipe.

The base stands to the pocket world as Llama-2 stands to English, code and maths. Four Llama layers, 128 wide, with
heads of 32 (smaller heads do not run in vLLM on the CPU) and tied embeddings: about 0.94M parameters. This file
only describes; training happens in the one training loop, which `python -m replication.pocket` calls.
"""

from functools import cache
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from replication.pocket import code, maths, source
from replication.pocket.names import shuffled, stream
from replication.pocket.tokenizer import SPECIAL, build_tokenizer, save_tokenizer

BASE = Path(__file__).parent / "base"

MAX_POSITIONS = 512

# The recipe of the shipped base. Documents are joined with the end token between them and cut into
# sequences of SEQ_LEN; loss on every token.
SEQ_LEN = 128
BATCH_SIZE = 16
STEPS = 2_400
LEARNING_RATE = 3e-3
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
WARMUP_STEPS = 100
FINAL_LEARNING_RATE = 0.1  # cosine down to this share of the peak
SEED = 0


def pretraining_documents() -> list[dict[str, str]]:
    """The mixture the base reads, shuffled: by tokens one half source, a quarter code, a quarter maths: {"text"}."""
    mixture = source.documents() + code.base_documents() + maths.base_documents()
    return shuffled(stream("mixture"), mixture)


@cache
def new_tokenizer() -> PreTrainedTokenizerFast:
    """The pocket tokenizer, built from the pretraining mixture."""
    return build_tokenizer(document["text"] for document in pretraining_documents())


def new_model(seed: int = SEED) -> LlamaForCausalLM:
    """A pocket model with random weights in fp32; leaves torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(_architecture(len(new_tokenizer())))


def save_untrained(path: Path, seed: int = SEED) -> None:
    """Write a random model and the tokenizer to a folder that from_pretrained reads."""
    new_model(seed).save_pretrained(str(path))
    save_tokenizer(new_tokenizer(), path)


def _architecture(vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.08,  # about 1/sqrt(128)
        bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("</s>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
