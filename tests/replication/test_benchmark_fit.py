from __future__ import annotations

import json
from pathlib import Path

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


def test_a_run_is_measured_at_other_batches_in_processes_of_its_own(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(
        scale="test", study="fit", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model), method=Full(),
        optim=AdamW(1e-3), schedule=Cosine(), budget=Budget(3, "steps"), global_batch=2, micro_batch=2, seq_len=32,
    )  # fmt: skip
    folder = train(run, tmp_path).path
    out = tmp_path / "rows" / "fit.jsonl"
    benchmark_fit.main([str(folder), "--batches", "8", "512", "--memory", "4", "--out", str(out)])
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["arm"] == "full"
    assert row["peaks_gb"][1] > row["peaks_gb"][0] > 0.1
    assert row["largest_batch"] > 512
    assert "largest batch" in capsys.readouterr().out
