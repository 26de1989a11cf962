import json
from pathlib import Path

from replication import benchmark_prepare
from replication.models import load_tokenizer


def test_the_input_has_its_size_and_no_document_twice(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words " * 4000)
    path = tmp_path / "input.jsonl"
    benchmark_prepare.write_input([tmp_path / "a.txt"], path, 200_000)
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    assert 200_000 <= path.stat().st_size < 200_000 + 2 * benchmark_prepare.LONGEST
    assert len(set(texts)) == len(texts) > 5


def test_both_sides_find_the_same_tokens_each_time(tmp_path: Path, tiny_model: Path, tiny_corpus: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    bare = benchmark_prepare._bare(tiny_corpus, tokenizer)()
    local = tmp_path / "documents.jsonl"
    local.write_bytes(tiny_corpus.read_bytes())
    assert [benchmark_prepare._ours(local, tokenizer)() for _ in range(2)] == [bare, bare]
    assert len(list(tmp_path.glob("*/*/tokens.bin"))) == 2  # made anew each time
