"""The GPU benchmark at a toy size: whole on a GPU, and on a CPU what needs none."""

import json
from pathlib import Path

import pytest
import torch

from replication import benchmark_gpu, kernels, shapes
from replication.benchmark_gpu import METHODS, VARIANTS, Plan
from replication.config import LoRA

TOY = shapes.Shape(64, 2, 4, 2, 96, 300, tied=True, qkv_bias=True)


def toy(device: str) -> Plan:
    return Plan(TOY, device=device, rows=2, seq_len=64, mean=12, warm=1, steps=1, rounds=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark_gpu.main(["--json"])
    assert stopped.value.code == 2
    assert "needs a CUDA device" in capsys.readouterr().err


def test_on_a_cpu_the_plain_path_and_varlen_are_measured_and_fused_says_why_not() -> None:
    rows = benchmark_gpu.measure(toy("cpu"), methods=["lora"], variants=["plain", "varlen", "fused"], peak=1e12)
    plain, varlen, fused = rows
    for row in (plain, varlen):
        assert row.tokens_per_s is not None and row.tokens_per_s > 0
        assert row.utilisation is not None and 0 < row.utilisation < 1
        assert row.gradient_error is not None and 0 < max(row.gradient_error.values()) < 0.05
    assert fused.tokens_per_s is None
    assert torch.cuda.is_available() or "needs a CUDA device" in fused.reason
    assert "not measured" in benchmark_gpu.line(fused)


def test_a_packed_batch_restarts_positions_and_trains_second_halves() -> None:
    batch = benchmark_gpu.packed_batch(toy("cpu"), 2, seed=0)
    positions, labels = batch["position_ids"], batch["labels"]
    assert positions[:, 0].tolist() == [0, 0]
    steps = positions.diff(dim=-1)
    assert ((steps == 1) | (positions[:, 1:] == 0)).all()
    assert int((positions == 0).sum()) > 4
    trained = labels != kernels.IGNORED
    assert 0.4 < float(trained.float().mean()) < 0.65
    assert torch.equal(labels[trained], batch["input_ids"][trained])
    assert not trained[positions == 0].any()


def test_gradient_error_is_the_relative_distance_of_a_whole_group() -> None:
    truth = {"layers.0.q_proj.weight": torch.tensor([3.0]), "layers.1.q_proj.weight": torch.tensor([4.0])}
    found = {"layers.0.q_proj.weight": torch.tensor([3.5]), "layers.1.q_proj.weight": torch.tensor([4.0])}
    assert benchmark_gpu.gradient_errors(found, truth) == {"q_proj": pytest.approx(0.1)}


def test_flops_by_hand() -> None:
    block = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96  # q and o, k and v, the MLP
    multiplied = 2 * block + 300 * 64
    assert benchmark_gpu.flops_per_token(TOY, METHODS["full"]) == 6 * multiplied
    adapters = 2 * 4 * (2 * 128 + 2 * 96 + 3 * 160)
    assert benchmark_gpu.flops_per_token(TOY, LoRA(4, 8)) == 4 * multiplied + 6 * adapters


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_fast_path_errs_no_more_than_plain_bf16_does() -> None:
    rows = benchmark_gpu.measure(toy("cuda"), methods=list(METHODS), variants=list(VARIANTS), peak=None)
    plain = {row.method: row.gradient_error for row in rows if row.variant == "plain"}
    for row in rows:
        if row.reason:
            assert "liger-kernel" in row.reason
            continue
        assert row.peak_bytes is not None and row.peak_bytes > 0
        assert row.gradient_error is not None
        for group, error in row.gradient_error.items():
            # Both are rounding errors of the same size; a wrong kernel is off by far more.
            assert error <= 1.5 * plain[row.method][group] + 1e-3, (row.variant, group)


def test_rows_are_plain_json(tmp_path: Path) -> None:
    row = benchmark_gpu.Measured("full", "plain", 10.0, None, 2.0, None, {"attention": 0.1})
    assert json.loads(json.dumps(row.__dict__))["gradient_error"] == {"attention": 0.1}
