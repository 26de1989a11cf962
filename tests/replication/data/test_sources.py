import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetNotFoundError

from replication.config import Source
from replication.data.sources import documents, fingerprint

ROWS = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(5)]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".jsonl":
        path.write_text(text)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".csv":
        path.write_text("question,answer\n" + "".join(f"{r['question']},{r['answer']}\n" for r in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.json", "d.csv", "d.parquet"])
def test_every_kind_of_local_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert list(documents(Source(str(write(tmp_path / name, ROWS))))) == ROWS


def test_columns_are_renamed_and_the_others_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"question": "q", "answer": "a", "level": "1"}])
    source = Source(str(path), columns=(("prompt", "question"), ("response", "answer")))
    assert list(documents(source)) == [{"prompt": "q", "response": "a", "level": "1"}]


def test_columns_can_be_swapped(generated: Callable[..., Source]) -> None:
    source = generated([{"a": "1", "b": "2"}], columns=(("a", "b"), ("b", "a")))
    assert list(documents(source)) == [{"a": "2", "b": "1"}]


def test_missing_column_names_the_columns_there_are(tmp_path: Path) -> None:
    source = Source(str(write(tmp_path / "d.jsonl", ROWS)), columns=(("text", "body"),))
    with pytest.raises(ValueError, match=r"no column 'body' for 'text'; it has \['answer', 'question'\]"):
        list(documents(source))


def test_a_text_file_is_one_document_and_a_folder_of_them_one_each(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second\n\nstill second")
    (tmp_path / "a.txt").write_text("first")
    assert [d["text"] for d in documents(Source(str(tmp_path)))] == ["first", "second\n\nstill second"]
    assert [d["text"] for d in documents(Source(str(tmp_path / "b.txt")))] == ["second\n\nstill second"]


def test_a_folder_in_the_hub_layout_is_read_by_split(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS[:3])
    write(tmp_path / "test.jsonl", ROWS[3:])
    assert list(documents(Source(str(tmp_path)))) == ROWS[:3]
    assert list(documents(Source(str(tmp_path), split="test"))) == ROWS[3:]


def test_an_unknown_split_names_those_there_are(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(ValueError, match="split 'validation'.*train"):
        list(documents(Source(str(tmp_path), split="validation")))


def test_generated_strings_are_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_strings.py").write_text("def rows():\n    yield 'x'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(documents(Source("python:made_strings:rows"))) == [{"text": "x"}]


def test_parts_divide_the_documents_one_in_twenty(generated: Callable[..., Source]) -> None:
    rows = [{"text": str(i)} for i in range(45)]
    heldout = [d["text"] for d in documents(generated(rows, part="heldout"))]
    train = [d["text"] for d in documents(generated(rows, part="train"))]
    assert heldout == ["0", "20", "40"]
    assert sorted(heldout + train, key=int) == [row["text"] for row in rows]


def test_limit_counts_documents_of_the_part(generated: Callable[..., Source]) -> None:
    rows = [{"text": str(i)} for i in range(45)]
    assert [d["text"] for d in documents(generated(rows, part="heldout", limit=2))] == ["0", "20"]


def test_relative_paths_are_seen_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    assert len(list(documents(Source("d.jsonl")))) == len(ROWS)


def test_relative_paths_are_then_seen_from_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "LionW" in next(documents(Source("replication/config.py")))["text"]


def test_a_missing_file_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no data at 'no/such.jsonl'; tried {tmp_path}/no/such.jsonl, .*such"):
        list(documents(Source("no/such.jsonl")))


@pytest.mark.parametrize("where", ["python:json:nothing", "python:no_such_module:rows"])
def test_a_missing_generator_is_named(where: str) -> None:
    with pytest.raises(FileNotFoundError, match=where):
        list(documents(Source(where)))


@pytest.mark.parametrize("text", ["", "\n"])
def test_empty_data_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"d\.jsonl"):
        list(documents(Source(str(tmp_path / "d.jsonl"))))


def test_a_part_without_documents_is_refused(generated: Callable[..., Source]) -> None:
    with pytest.raises(ValueError, match="no documents .*part 'train'"):
        list(documents(generated([{"text": "only one"}], part="train")))


def test_a_broken_file_is_named_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl.gz", [{"text": "word " * 50 + str(i)} for i in range(999)])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"d\.jsonl\.gz") as caught:
        list(documents(Source(str(path))))
    assert "\n" not in str(caught.value)


def test_a_folder_of_texts_and_data_is_refused_rather_than_half_read(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with pytest.raises(ValueError, match=r"package\.json.* and texts \(a\.py"):
        list(documents(Source(str(tmp_path))))


def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "d.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"d\.xlsx.*\.parquet"):
        list(documents(Source(str(tmp_path / "d.xlsx"))))


def test_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    here, there = write(first / "d.jsonl", ROWS), write(second / "d.jsonl", ROWS)
    before = fingerprint(Source(str(here)))
    assert before == fingerprint(Source(str(there)))
    assert before != fingerprint(Source(str(here), limit=2))
    write(here, ROWS[::-1])
    assert before != fingerprint(Source(str(here)))


def test_fingerprint_of_a_generator_follows_its_rows(generated: Callable[..., Source]) -> None:
    one, same, other = generated(ROWS), generated(ROWS), generated(ROWS[1:])
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


HUB = Source("owner/set/python", split="test", name="plain", revision="abc123")


@pytest.mark.parametrize(
    ("source", "stream", "offline", "streaming"),
    [
        (HUB, False, False, False),
        (replace(HUB, limit=1), False, False, True),
        (HUB, True, False, True),
        (HUB, True, True, False),
    ],
)
def test_a_hub_id_is_asked_for_with_its_folder_split_and_revision(
    monkeypatch: pytest.MonkeyPatch, source: Source, stream: bool, offline: bool, streaming: bool
) -> None:
    asked = []

    def load_dataset(path: str, **options: object) -> list[dict[str, str]]:
        asked.append((path, options))
        return ROWS

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", offline)
    assert list(documents(source, stream=stream)) == ROWS[: source.limit]
    options = {"split": "test", "name": "plain", "revision": "abc123", "data_dir": "python", "streaming": streaming}
    assert asked == [("owner/set", options)]


def test_a_hub_that_cannot_be_reached_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="no data at .no-owner/no-set.; tried .*, and the hub:"):
        list(documents(Source("no-owner/no-set", revision="abc123")))


def test_a_gated_data_set_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **options: object) -> None:
        raise DatasetNotFoundError(f"Dataset '{path}' is a gated dataset on the Hub.\nVisit its page.")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(FileNotFoundError, match="is a gated dataset on the Hub.*accept its terms.*hf auth login"):
        list(documents(HUB, stream=True))


def test_a_connection_lost_while_streaming_is_no_fault_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield ROWS[0]
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr("datasets.load_dataset", lambda path, **options: rows())
    with pytest.raises(ConnectionError, match="lost the connection while reading 'owner/set/python': timed out"):
        list(documents(HUB, stream=True))


def test_a_hub_id_without_revision_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda path, **options: ROWS)
    assert list(documents(Source("owner/set"))) == ROWS
    assert "owner/set has no pinned revision" in caplog.text


def test_real_files_have_the_documented_counts(shared_data: Path) -> None:
    gsm8k = Source(
        str(shared_data / "benchmarks/gsm8k/train.jsonl"), columns=(("prompt", "question"), ("response", "answer"))
    )
    rows = list(documents(gsm8k))
    assert len(rows) == 7473
    assert rows[0]["response"].endswith("#### 72")
    code = Source(str(shared_data / "corpora/code_thealgorithms/thealgorithms_python.jsonl.gz"))
    assert len(list(documents(code))) == 1163
    alpaca = Source(str(shared_data / "instruct/codealpaca/code_alpaca_2k.json"))
    assert len(list(documents(alpaca))) == 2017
