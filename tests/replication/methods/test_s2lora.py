"""Sparsely Shared LoRA: its formula, its start, exact zeros, the escape by scale, gradients, and training it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from replication import preemption
from replication.config import CPT, SGD, AdamW, Budget, Optim, Run, S2LoRA, Source, Trapezoid
from replication.health import group_of
from replication.methods import attach
from replication.methods.attached import Attached
from replication.methods.merge import load_merged, load_unmerged
from replication.methods.s2lora import Factors, SharedLinear, soften
from replication.train import train
from tests.replication.methods import pieces

METHOD = S2LoRA(4, scale=8.0, sparsity=0.2, unit=True)


@pytest.fixture
def run(tiny_model: Path, tiny_corpus: Path) -> Run:
    return Run(
        scale="test", study="s2", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model),
        method=METHOD, optim=AdamW(1e-2), schedule=Trapezoid(2),
        budget=Budget(12, "steps"), global_batch=4, micro_batch=2, seq_len=32,
    )  # fmt: skip


def shared_linears(attached: Attached) -> list[SharedLinear]:
    return [m for m in attached.model.modules() if isinstance(m, SharedLinear)]


def test_the_formula_by_hand() -> None:
    # A = [[1, 2, 0], [0, 1, 1]], B = [[1, 0], [0, 3]], c = (2, 0), scale 10, x = (1, 1, 1): A x = (3, 2),
    # c A x = (6, 0), B of it = (6, 0), ten times that is (60, 0); the base is zero with bias (.5, .25).
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([0.5, 0.25]))
    factors = Factors(torch.tensor([[1.0, 2, 0], [0, 1, 1]]), torch.tensor([[1.0, 0], [0, 3]]))
    layer = SharedLinear(linear, factors, torch.tensor([2.0, 0.0]), scale=10.0)
    assert layer(torch.ones(1, 3)).tolist() == [[60.5, 0.25]]
    assert layer.merged().weight.tolist() == [[20.0, 40.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", ["language", "speech"])
def test_matrices_of_one_shape_share_factors_and_own_coefficients(kind: str) -> None:
    model = pieces.base(kind)
    shapes = {(m.out_features, m.in_features) for n, m in model.named_modules() if n.endswith(("_proj", "fc1", "fc2"))}
    attached = attach(model, S2LoRA(3), seed=0)
    layers = shared_linears(attached)
    assert len(layers) == {"language": 14, "speech": 32}[kind]  # Whisper: 2 x 6 in the encoder, 2 x 10 in the decoder
    assert {(m.base.out_features, m.base.in_features) for m in layers} == shapes
    assert len({id(m._factors[0]) for m in layers}) == len(shapes)
    names = [name for name in attached.trainable if name.startswith("shared.")]
    assert sorted(names) == sorted(f"shared.{out}x{width}.{ab}" for out, width in shapes for ab in "ab")
    assert len(attached.trainable) == 2 * len(shapes) + len(layers)


def test_names_group_over_layers() -> None:
    attached = attach(pieces.base("speech"), S2LoRA(3, targets="q_proj+v_proj"), seed=0)
    groups = {group_of(name) for name in attached.trainable}
    attentions = ("encoder.self_attn", "decoder.self_attn", "decoder.encoder_attn")
    own = {f"{attention}.{proj}_proj.coefficients" for attention in attentions for proj in "qv"}
    assert groups == own | {"shared.16x16.a", "shared.16x16.b"}


@pytest.mark.parametrize(("start", "silent"), [("coefficients", "ab"), ("b", "ac")])
def test_what_has_a_gradient_at_first(start: str, silent: str) -> None:
    attached = attach(pieces.base("speech"), S2LoRA(3, start=start), seed=0)  # type: ignore[arg-type]
    attached.model(**pieces.question("speech")).logits.square().sum().backward()
    kinds: dict[str, bool] = {}
    for name, p in attached.trainable.items():
        kind = name[-1] if name.startswith("shared") else "c"
        kinds[kind] = kinds.get(kind, False) or bool(p.grad is not None and p.grad.any())
    assert "".join(sorted(kind for kind, moves in kinds.items() if not moves)) == silent


def test_gradients_equal_finite_differences() -> None:
    model = pieces.base("speech").double()
    attached = attach(model, S2LoRA(3, scale=2.0, orthogonality=0.1), seed=0)
    pieces.shake(attached)
    inputs = pieces.question("speech")
    inputs["input_features"] = inputs["input_features"].double()
    penalty = attached.penalty
    assert penalty is not None

    def loss() -> torch.Tensor:
        return attached.model(**inputs).logits.square().mean() + penalty()

    loss().backward()
    generator = torch.Generator().manual_seed(1)
    for p in attached.trainable.values():
        assert p.grad is not None
        direction = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        with torch.no_grad():
            values = []
            for step in (1e-6, -2e-6):  # to one side, then to the other
                p.add_(step * direction)
                values.append(loss())
            p.add_(1e-6 * direction)
        numeric = float(values[0] - values[1]) / 2e-6
        assert float((p.grad * direction).sum()) == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_soft_threshold_by_hand() -> None:
    c = torch.tensor([0.5, -0.5, 0.125, -0.125, 0.0])
    soften(c, 0.25)
    assert c.tolist() == [0.25, -0.25, 0.0, 0.0, 0.0]


def test_under_gradient_descent_the_threshold_solves_the_lasso() -> None:
    # min over c of (c - t)^2 / 2 + mu |c| is at sign(t) max(|t| - mu, 0); steps of gradient and threshold end there.
    target, c = torch.tensor([1.0, -0.5, 0.15, -0.05]), torch.zeros(4)
    for _ in range(300):
        c -= 0.1 * (c - target)
        soften(c, 0.1 * 0.2)
    assert torch.allclose(c, torch.tensor([0.8, -0.3, 0.0, 0.0]), atol=1e-6)


def test_unit_lengths_hold_from_the_start_and_stop_the_escape() -> None:
    attached = attach(pieces.base("speech"), S2LoRA(3, unit=True), seed=0)
    factors = [m for m in attached.model.modules() if isinstance(m, Factors)]
    pieces.shake(attached)
    attached.on_step(0, 1e-3)
    for pair in factors:
        assert torch.allclose(pair.a.norm(dim=1), torch.ones(3))
        assert torch.allclose(pair.b.norm(dim=0), torch.ones(3))


def test_the_penalty_is_zero_for_orthonormal_factors_alone() -> None:
    q, _ = torch.linalg.qr(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    assert float(Factors(q.T.contiguous(), q.clone()).off_orthogonal().detach()) == pytest.approx(0, abs=1e-10)
    # Twice as long: the Gram matrices are 4 I, 3 off on each of three diagonal entries, in both factors.
    assert float(Factors(2 * q.T, 2 * q).off_orthogonal().detach()) == pytest.approx(2 * 3 * 9, rel=1e-5)


def _zeros(run: Run, root: Path) -> tuple[int, int]:
    folder = train(run, root / run.method.label())
    tensors = load_file(folder.checkpoints()[-1] / "adapter_model.safetensors")
    c = torch.cat([value for name, value in tensors.items() if name.endswith(".coefficients")])
    return int((c == 0).sum()), c.numel()


@pytest.mark.parametrize("optim", [AdamW(1e-2), SGD(0.05)], ids=["adamw", "sgd"])
def test_the_heavier_the_penalty_the_more_exact_zeros(run: Run, optim: Optim, tmp_path: Path) -> None:
    weights = (0.0, 0.6, 0.8) if isinstance(optim, AdamW) else (0.0, 0.03, 0.1)
    counts = []
    for sparsity in weights:
        method = replace(METHOD, sparsity=sparsity)
        zeros, total = _zeros(replace(run, optim=optim, method=method, budget=Budget(24, "steps")), tmp_path)
        assert total == 14 * 4
        counts.append(zeros)
    assert counts[0] == 0
    assert 0 < counts[1] < counts[2] < 14 * 4


def test_a_run_of_a_language_model_trains_resumes_and_merges(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(run, tmp_path / "whole")
    seen: list[float] = []
    with monkeypatch.context() as patch:
        patch.setattr(preemption, "asked", lambda: len(seen) == 7)
        with pytest.raises(preemption.Preempted):
            train(run, tmp_path / "cut", watch=lambda progress: seen.append(progress.loss))
    again = train(run, tmp_path / "cut")
    files = [f.checkpoints()[-1] / "adapter_model.safetensors" for f in (whole, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    checkpoint, ids = whole.checkpoints()[-1], torch.arange(20)[None]
    with torch.no_grad():
        beside, merged = (f(run.model, checkpoint).eval()(input_ids=ids).logits for f in (load_unmerged, load_merged))
    assert (beside - merged).abs().max() < 1e-5
    assert whole.manifest["trainable"] == 14 * 4 + 4 * ((32 + 32) + 2 * (32 + 48))


def test_zero_stages_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="0 with S2LoRA"):
        replace(run, zero_stage=1)
