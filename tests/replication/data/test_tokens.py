from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from replication.config import Source
from replication.data import sources
from replication.data.tokens import TokenShards, prepare_instruct, prepare_text, tokenizer_hash

TEXTS = [{"text": "a b c"}, {"text": "d"}, {"text": "e f"}]
PAIRS = [{"prompt": "a b", "response": "c"}, {"prompt": "d", "response": "e f g"}]


def test_a_document_is_its_tokens_and_end_of_text(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    shards = prepare_text(generated(TEXTS), words, tmp_path)
    assert [shards.doc(i).tolist() for i in range(shards.n_docs)] == [[1, 2, 3, 0], [4, 0], [5, 6, 0]]
    assert (shards.n_docs, shards.n_tokens) == (3, 9)
    assert shards.doc(0).dtype == np.int64
    assert [shards.supervised_from(i) for i in range(3)] == [0, 0, 0]


def test_the_response_is_supervised_from_its_first_token(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    shards = prepare_instruct(generated(PAIRS), "h {prompt} i", words, tmp_path)
    assert [shards.doc(i).tolist() for i in range(2)] == [[8, 1, 2, 9, 3, 0], [8, 4, 9, 5, 6, 7, 0]]
    assert [shards.supervised_from(i) for i in range(2)] == [4, 3]
    with_prompt = prepare_instruct(generated(PAIRS), "h {prompt} i", words, tmp_path, loss_on_prompt=True)
    assert with_prompt.supervised_from(0) == 0
    assert with_prompt.digest != shards.digest


def test_prepared_once_and_then_reused(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    source = generated(TEXTS)
    first = prepare_text(source, words, tmp_path / "cache")
    written = (first.folder / "tokens.bin").stat().st_mtime_ns
    second = prepare_text(source, words, tmp_path / "cache")
    assert second.digest == first.digest
    assert (second.folder / "tokens.bin").stat().st_mtime_ns == written
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [first.digest]


def test_the_digest_follows_data_tokenizer_and_template(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    source = generated(PAIRS)
    digests = [prepare_instruct(source, "a {prompt}", words, tmp_path).digest]
    digests += [prepare_instruct(source, "b {prompt}", words, tmp_path).digest]
    digests += [prepare_instruct(generated(PAIRS[::-1]), "a {prompt}", words, tmp_path).digest]
    words.add_tokens(["k"])
    digests += [prepare_instruct(source, "a {prompt}", words, tmp_path).digest]
    assert len(set(digests)) == 4


def test_the_digest_is_the_same_in_every_cache(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    source = generated(TEXTS)
    one, two = (prepare_text(source, words, tmp_path / name) for name in ("a", "b"))
    assert one.digest == two.digest
    assert (one.folder / "tokens.bin").read_bytes() == (two.folder / "tokens.bin").read_bytes()
    assert (one.folder / "meta.json").read_bytes() == (two.folder / "meta.json").read_bytes()


def test_padding_in_an_earlier_call_does_not_change_the_tokenizers_hash(words: PreTrainedTokenizerFast) -> None:
    before = tokenizer_hash(words)
    words.pad_token = "</s>"
    words(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_hash(words) == before


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "prompt_lengths.npy"])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-1] + b"\x07", lambda raw: b""])
def test_a_corrupt_shard_is_named(
    words: PreTrainedTokenizerFast,
    generated: Callable[..., Source],
    tmp_path: Path,
    name: str,
    damage: Callable[[bytes], bytes],
) -> None:
    source = generated(PAIRS)
    path = prepare_instruct(source, "{prompt} ", words, tmp_path).folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"corrupt token shard: {path}"):
        prepare_instruct(source, "{prompt} ", words, tmp_path)


def test_a_failed_preparation_cleans_up(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="document 1 of .*'text' is None, not text"):
        prepare_text(generated([{"text": "a"}, {"text": None}]), words, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_text_column_names_those_there_are(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no column 'response'; it has \['answer', 'prompt'\]"):
        prepare_instruct(generated([{"prompt": "a", "answer": "b"}]), "{prompt}", words, tmp_path)


def test_blank_documents_are_left_out_with_a_warning(
    words: PreTrainedTokenizerFast,
    generated: Callable[..., Source],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shards = prepare_text(generated([{"text": "a"}, {"text": " \n"}, {"text": "b"}]), words, tmp_path)
    assert [shards.doc(i).tolist() for i in range(shards.n_docs)] == [[1, 0], [2, 0]]
    assert "left out 1 documents without text" in caplog.text


def test_nothing_but_blank_documents_is_refused(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="all 2 documents .* are without text"):
        prepare_text(generated([{"text": ""}, {"text": " "}]), words, tmp_path)


def test_large_vocabularies_take_four_bytes(
    words: PreTrainedTokenizerFast, generated: Callable[..., Source], tmp_path: Path
) -> None:
    words.add_tokens([f"w{i}x" for i in range(70_000)])
    shards = prepare_text(generated([{"text": "w69999x"}]), words, tmp_path)
    assert shards.doc(0).tolist() == [70_011, 0]
    assert shards.tokens.dtype == np.uint32


def test_real_corpora_survive_the_round_trip(shared_data: Path, neox: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    code = Source(str(shared_data / "corpora/code_thealgorithms/thealgorithms_python.jsonl.gz"), limit=100)
    story = Source(str(shared_data / "corpora/tinystories_b/tinystories_b.txt"))
    llama = AutoTokenizer.from_pretrained(shared_data / "models" / "stories260K")
    code_texts = [d["text"] for d in sources.documents(code) if d["text"].strip()]
    assert _texts(prepare_text(code, neox, tmp_path), neox) == code_texts
    assert _texts(prepare_text(story, llama, tmp_path), llama) == [next(sources.documents(story))["text"]]


def test_real_instructions_split_where_the_response_begins(
    shared_data: Path, neox: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    columns = (("prompt", "question"), ("response", "answer"))
    source = Source(str(shared_data / "benchmarks/gsm8k/train.jsonl"), columns=columns, limit=300)
    shards = prepare_instruct(source, "Question: {prompt}\nAnswer:\n", neox, tmp_path)
    for i, row in enumerate(sources.documents(source)):
        ids, start = shards.doc(i), shards.supervised_from(i)
        assert neox.decode(ids[:start]) == f"Question: {row['prompt']}\nAnswer:\n"
        assert neox.decode(ids[start:]) == row["response"] + "<|endoftext|>"


def _texts(shards: TokenShards, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Documents decoded without end-of-text, and without the mark and space that SentencePiece begins with."""
    decoded = [tokenizer.decode(shards.doc(i)[:-1]) for i in range(shards.n_docs)]
    return [text.removeprefix("<s> ") for text in decoded]
