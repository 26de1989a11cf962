"""Shared ground of all tests: offline, one thread, a tiny model made on the spot, real data where it is at hand."""

from __future__ import annotations

import json
import os
import runpy
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

# Before torch or a hub library is imported: both read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def no_outside_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail any test that opens a connection beyond this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets for tests; a test that needs it skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared test data are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def forked() -> SimpleNamespace:
    """`call` and `start` of forked.py: commands as processes that do not import the training stack anew."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("forked.py"))))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with a byte tokenizer, as a folder in the hub's layout."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1} | {letter: i + 2 for i, letter in enumerate(letters)}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
        initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty short documents, of which a tiny model can learn something in a few steps."""
    path = tmp_path_factory.mktemp("corpus") / "documents.jsonl"
    rows = [{"text": f"{i} plus {j} is {i + j}. " * (1 + (i * j) % 5)} for i in range(6) for j in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty prompts and responses of ragged length."""
    path = tmp_path_factory.mktemp("instructions") / "rows.jsonl"
    rows = [{"prompt": f"{i}+{j}?", "response": f"{i + j} " * (1 + (i * j) % 7)} for i in range(6) for j in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
