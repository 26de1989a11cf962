from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast


@pytest.fixture
def neox(shared_data: Path) -> PreTrainedTokenizerFast:
    """The Pythia tokenizer: a real byte-level BPE."""
    file = shared_data / "tokenizers" / "pythia_20B_tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>")
