from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from replication.config import Source
from replication.data import audio
from replication.data.sources import documents, fingerprint


def record(path: Path, value: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(80, value), 8000)


def test_a_list_of_files_and_texts_is_read(tmp_path: Path) -> None:
    for name in ("a.wav", "deep/b.flac"):
        record(tmp_path / name)
    (tmp_path / "metadata.csv").write_text('file_name,text,speaker\na.wav,"one, two",ann\ndeep/b.flac,three,bob\n')
    rows = list(documents(Source(str(tmp_path))))
    assert [(row["id"], row["text"], row["speaker"]) for row in rows] == [
        ("a.wav", "one, two", "ann"), ("deep/b.flac", "three", "bob")
    ]  # fmt: skip
    assert len(audio.waveform(rows[1]["audio"], 8000)) == 80


def test_a_list_in_json_is_read_and_its_columns_renamed(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.wav", "sentence": "one"}) + "\n\n")
    rows = list(documents(Source(str(tmp_path), columns=(("text", "sentence"),))))
    assert rows == [{"id": "a.wav", "text": "one", "audio": {"path": str(tmp_path / "a.wav")}}]


def test_texts_beside_recordings_are_read(tmp_path: Path) -> None:
    for name in ("b", "a"):
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(f" said {name}\n")
    rows = list(documents(Source(str(tmp_path))))
    assert [(row["id"], row["text"]) for row in rows] == [("a.wav", "said a"), ("b.wav", "said b")]


def test_ljspeech_is_read_with_numbers_spelled_out_and_quotation_marks_as_text(shared_data: Path) -> None:
    rows = list(documents(Source(str(shared_data / "speech" / "ljspeech_sample"))))
    lines = (shared_data / "speech" / "ljspeech_sample" / "metadata.csv").read_text().splitlines()
    assert [row["text"] for row in rows] == [line.split("|")[-1] for line in lines]
    assert [row["id"] for row in rows] == [line.split("|")[0] for line in lines]
    assert sum(audio.seconds(row["audio"]) for row in rows) == pytest.approx(50, abs=1)


def test_quotation_marks_of_ljspeech_are_text(tmp_path: Path) -> None:
    record(tmp_path / "wavs" / "x.wav")
    (tmp_path / "metadata.csv").write_text('x|"he said 2|"he said two\n')
    assert [row["text"] for row in documents(Source(str(tmp_path)))] == ['"he said two']


@pytest.mark.parametrize("listed", ["file_name,text\ngone.wav,one\n", "gone|one|one\n"])
def test_a_recording_that_is_not_there_is_named(tmp_path: Path, listed: str) -> None:
    record(tmp_path / "other.wav")
    (tmp_path / "metadata.csv").write_text(listed)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        list(documents(Source(str(tmp_path))))


def test_a_recording_without_a_transcript_is_named(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"neither a\.txt beside it nor a metadata"):
        list(documents(Source(str(tmp_path))))


def test_a_list_without_file_names_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "metadata.csv").write_text("path,text\na.wav,one\n")
    with pytest.raises(ValueError, match="no file_name"):
        list(documents(Source(str(tmp_path))))


def test_the_fingerprint_changes_with_the_sound(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", 0.1)
    (tmp_path / "a.txt").write_text("one")
    before = fingerprint(Source(str(tmp_path)))
    assert fingerprint(Source(str(tmp_path))) == before
    record(tmp_path / "a.wav", 0.2)
    assert fingerprint(Source(str(tmp_path))) != before


def test_sound_of_a_hub_data_set_stays_encoded(tmp_path: Path) -> None:
    # As the hub stores it: parquet files whose schema says which column is sound. Decoding would need torchcodec.
    import datasets
    import pyarrow
    from pyarrow import parquet

    record(tmp_path / "made" / "a.wav", 0.25)
    content = (tmp_path / "made" / "a.wav").read_bytes()
    columns = {"audio": datasets.Audio(sampling_rate=16_000), "transcription": datasets.Value("string")}
    rows = {"audio": [{"bytes": content, "path": "a.wav"}], "transcription": ["one"]}
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    table = pyarrow.table(rows, schema=datasets.Features(columns).arrow_schema)
    parquet.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    source = Source(str(folder), columns=(("text", "transcription"),))
    (row,) = documents(source)
    assert row["text"] == "one"
    assert row["audio"]["bytes"] == content
    assert np.allclose(audio.waveform(row["audio"], 8000), 0.25, atol=1e-4)
    assert fingerprint(source) == fingerprint(source)


def test_a_split_is_its_own_folder_and_is_never_read_for_another(tmp_path: Path) -> None:
    for split in ("train", "test"):
        record(tmp_path / "both" / split / "a.wav")
        (tmp_path / "both" / split / "a.txt").write_text(f"said in {split}")
    for split in ("train", "test"):
        (row,) = documents(Source(str(tmp_path / "both"), split))
        assert row["text"] == f"said in {split}"
    with pytest.raises(ValueError, match=r"no split 'dev' \(\['test', 'train'\]\)"):
        list(documents(Source(str(tmp_path / "both"), "dev")))
    # A folder of one split: named itself, it is what one trains on; it is no test set of itself.
    (row,) = documents(Source(str(tmp_path / "both" / "train")))
    assert row["text"] == "said in train"
    with pytest.raises(ValueError, match=r"no split 'test' \(no folders\)"):
        list(documents(Source(str(tmp_path / "both" / "train"), "test")))


def test_a_folder_with_a_test_split_alone_is_not_trained_on(tmp_path: Path) -> None:
    record(tmp_path / "test" / "a.wav")
    (tmp_path / "test" / "a.txt").write_text("one")
    with pytest.raises(ValueError, match="no split 'train'"):
        list(documents(Source(str(tmp_path))))


def test_a_line_of_ljspeech_without_a_text_is_named_and_a_blank_one_is_not_read(tmp_path: Path) -> None:
    record(tmp_path / "wavs" / "a.wav")
    (tmp_path / "metadata.csv").write_text("a|one\n\n")
    assert [row["text"] for row in documents(Source(str(tmp_path)))] == ["one"]
    (tmp_path / "metadata.csv").write_text("a|one\nb\n")
    with pytest.raises(ValueError, match=r"line 2 of .*metadata.csv has no text: 'b'"):
        list(documents(Source(str(tmp_path))))
