from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from replication import benchmark_fit
from replication.config import CPT, AdamW, Budget, Cosine, Full, Run, Source
from replication.train import train


def test_the_largest_batch_lies_on_the_line() -> None:
    # 1 GB and 10 MB an item: 2.005 GB hold 100 items and a half.
    assert benchmark_fit.largest([10, 50, 90], [1.1, 1.5, 1.9], 2.005) == (100, pytest.approx(1.0), pytest.approx(0.01))
    assert benchmark_fit.largest([1, 3], [2.0, 4.0], 8.5) == (7, pytest.approx(1.0), pytest.approx(1.0))
    assert benchmark_fit.largest([1, 3], [2.0, 4.0], 0.5)[0] == 0


def test_no_line_is_an_error() -> None:
    with pytest.raises(ValueError, match="a line takes two different ones"):
        benchmark_fit.largest([8, 8], [1.0, 1.1], 2.0)
    with pytest.raises(ValueError, match="do not rise with the batch"):
        benchmark_fit.largest([8, 16], [1.1, 1.0], 2.0)


def test_what_was_measured_is_kept_where_the_next_run_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = benchmark_fit.Row("full", 1.0, 7, 0.1, 0.2, (1, 2), (0.3, 0.5), "cpu")

    def measure(folder: Path, batches: object, memory: float) -> benchmark_fit.Row:
        if folder.name == "second":
            raise RuntimeError("out of memory")
        return row

    monkeypatch.setattr(benchmark_fit, "measure", measure)
    with pytest.raises(RuntimeError):
        benchmark_fit.main(["first", "second", "--out", str(tmp_path / "fit.jsonl")])
    assert [json.loads(line)["arm"] for line in (tmp_path / "fit.jsonl").read_text().splitlines()] == ["full"]


@pytest.fixture
def folder(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> Path:
    """A run of three steps."""
    run = Run(
        scale="test", study="fit", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model), method=Full(),
        optim=AdamW(1e-3), schedule=Cosine(), budget=Budget(3, "steps"), global_batch=2, micro_batch=2, seq_len=32,
    )  # fmt: skip
    return train(run, tmp_path).path


def test_a_run_is_measured_at_another_batch_in_a_process_of_its_own(
    folder: Path, tmp_path: Path, forked: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_fit.subprocess, "run", forked.run)
    assert 0 < benchmark_fit.peak(folder, 64, tmp_path / "fit") < 2
    (found,) = (tmp_path / "fit").glob("fit/batch64/*/manifest.json")
    run = json.loads(found.read_text())["run"]
    assert (run["global_batch"], run["micro_batch"], run["budget"]["amount"]) == (64, 64, benchmark_fit.STEPS)


def test_rows_are_of_every_run_at_every_batch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark_fit, "peak", lambda _, batch, root: 1.0 + 0.01 * batch)
    out = tmp_path / "rows" / "fit.jsonl"
    benchmark_fit.main([str(folder), "--batches", "8", "32", "--memory", "2.005", "--out", str(out)])
    (row,) = map(json.loads, out.read_text().splitlines())
    assert (row["arm"], row["largest_batch"], row["memory_gb"]) == ("full", 100, 2.005)
    assert (row["batches"], row["peaks_gb"]) == ([8, 32], [1.08, 1.32])
    assert "largest batch    100" in capsys.readouterr().out


def test_a_failed_measurement_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="at a batch of 4 failed"):
        benchmark_fit.peak(tmp_path / "nowhere", 4, tmp_path)
