from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from replication.config import Source


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    """One id per word, so that ids can be written by hand: a=1 b=2 ... j=10, end-of-text 0."""
    vocab = {"</s>": 0} | {letter: i + 1 for i, letter in enumerate("abcdefghij")} | {"?": 11}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="?")


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    """`generated(rows)`: a "python:" source that yields these rows."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(rows: list[dict[str, object]], **fields: object) -> Source:
        name = f"rows_{tmp_path.name.replace('-', '_')}_{len(made)}"
        made.append(name)
        (tmp_path / f"{name}.py").write_text(f"def rows():\n    return {rows!r}\n")
        return Source(f"python:{name}:rows", **fields)

    return make


@pytest.fixture
def neox(shared_data: Path) -> PreTrainedTokenizerFast:
    """The Pythia tokenizer: a real byte-level BPE."""
    file = shared_data / "tokenizers" / "pythia_20B_tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>")
