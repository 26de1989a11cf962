"""What makes a step cheaper leaves the loss where it was: whole short trainings, against the reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from replication import kernels
from replication.config import IFT, SGD, AdamW, Budget, Full, LionW, LoRA, Method, Run, Source, Speed, Trapezoid
from replication.health import TrainingFailed
from replication.models import tokenizer_of
from replication.runs import folder_of
from replication.tasks import open_stream
from replication.train import train

METHODS: dict[str, Method] = {"full": Full(), "lora": LoRA(4, 8, dropout=0.0)}
STEPS = 6


@pytest.fixture
def run(tiny_model: Path, tiny_instructions: Path) -> Run:
    return Run(
        scale="test", study="speed", task=IFT(Source(str(tiny_instructions), limit=24), "Q: {prompt} A: "),
        model=str(tiny_model), method=Full(), optim=AdamW(3e-3), schedule=Trapezoid(1), budget=Budget(STEPS, "steps"),
        global_batch=8, micro_batch=4, seq_len=48,
    )  # fmt: skip


def losses_of(run: Run, root: Path) -> list[float]:
    seen: list[float] = []
    train(run, root, watch=lambda progress: seen.append(progress.loss))
    assert len(seen) == STEPS
    assert seen[-1] < seen[0] - 0.1  # there is a trajectory to compare
    return seen


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Run], list[float]]:
    """The losses of a run with nothing made cheaper; each is trained once."""
    root, found = tmp_path_factory.mktemp("reference"), dict[str, list[float]]()

    def losses(run: Run) -> list[float]:
        plain = replace(run, speed=Speed(optimiser="foreach"))
        if plain.digest() not in found:
            found[plain.digest()] = losses_of(plain, root / plain.digest())
        return found[plain.digest()]

    return losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize(
    "speed", [Speed(kernels="cut"), Speed(optimiser="fused"), Speed(optimiser="loop"), Speed(recompute=True)],
    ids=["cut", "fused", "loop", "recompute"],
)  # fmt: skip
def test_a_cheaper_step_has_the_losses_of_the_reference(
    run: Run, method: str, stage: int, speed: Speed, reference: Callable[[Run], list[float]], tmp_path: Path
) -> None:
    run = replace(run, method=METHODS[method], zero_stage=stage)
    assert losses_of(replace(run, speed=speed), tmp_path) == pytest.approx(reference(run), abs=1e-4)


@pytest.mark.parametrize("stepping", ["fused", "foreach", "loop"])
def test_sgd_steps_the_same_in_every_way(run: Run, stepping: str, tmp_path: Path) -> None:
    run = replace(run, optim=SGD(0.1))
    asked = replace(run, speed=Speed(optimiser=stepping))  # type: ignore[arg-type]
    assert losses_of(asked, tmp_path) == pytest.approx(losses_of(run, tmp_path), abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at every attribute
def test_compiled_blocks_train_lora_with_dropout_to_the_same_losses_and_are_really_compiled(
    run: Run, tmp_path: Path
) -> None:
    run = replace(run, method=LoRA(4, 8, dropout=0.1), zero_stage=2)
    expected = losses_of(run, tmp_path)
    fast = replace(run, speed=Speed(compile=True, kernels="cut", optimiser="fused"))
    assert losses_of(fast, tmp_path) == pytest.approx(expected, abs=1e-4)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] >= 1
    assert not counters["graph_break"]
    assert not counters["inductor"]["fxgraph_cache_hit"]  # a run pays for its own compiling
    torch._dynamo.reset()


def test_a_fast_path_that_is_installed_and_never_called_fails_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "sums_loss", lambda forward: False)  # the objective takes the plain path
        with pytest.raises(TrainingFailed, match="the loss without logits was never called"):
            train(replace(run, speed=Speed(kernels="cut")), tmp_path)
    # As where a wrapper calls `forward` past what compiling put in its place.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    with pytest.raises(TrainingFailed, match=r"torch\.compile's code was never called"):
        train(replace(run, speed=Speed(compile=True)), tmp_path)


# ---------------------------------------------------------------- packed and padded


@pytest.mark.parametrize("method", METHODS)
def test_packed_rows_and_a_document_a_row_have_the_same_loss_at_every_step(
    run: Run, method: str, tmp_path: Path
) -> None:
    # All documents in every step, so that both arrangements train on the same ones.
    padded = replace(run, method=METHODS[method], task=replace(run.task, per_sequence=1), global_batch=24)
    size = open_stream(replace(padded, task=run.task), tokenizer_of(padded), cache=tmp_path).size
    packed = replace(padded, task=run.task, global_batch=size, micro_batch=size)
    assert size <= 12
    found = {run.name(): losses_of(run, tmp_path) for run in (padded, packed)}
    first, second = found.values()
    assert first == pytest.approx(second, abs=1e-4)
    ends = [folder_of(run, tmp_path).checkpoint(STEPS) / "meta.json" for run in (padded, packed)]
    tokens = [[part for part in end.read_text().split(",") if "supervised" in part or "real" in part] for end in ends]
    assert tokens[0] == tokens[1] and len(tokens[0]) == 2


# ---------------------------------------------------------------- refusals


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )


def classifier() -> DistilBertForSequenceClassification:
    config = DistilBertConfig(vocab_size=20, dim=8, hidden_dim=8, n_layers=1, n_heads=1, max_position_embeddings=8)
    return DistilBertForSequenceClassification(config)


@pytest.mark.parametrize(
    ("model", "speed", "told"),
    [
        (classifier, Speed(kernels="cut"), "language models with an lm_head, not DistilBert"),
        (classifier, Speed(compile=True), "knows llama and qwen2, not distilbert"),
        (llama, Speed(kernels="liger", compile=True), 'choose kernels "cut" or "reference" with compile'),
    ],
)
def test_what_does_not_fit_the_model_is_refused(model: Callable[[], torch.nn.Module], speed: Speed, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kernels.apply(model(), speed)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_ligers_modules_alone_need_a_gpu_and_the_loss_alone_does_not(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='kernels="liger" needs a CUDA device.*"cut"'):
        train(replace(run, speed=Speed(kernels="liger")), tmp_path)
    model = llama()
    kernels.apply(model, Speed(kernels="cut"))
    assert kernels.sums_loss(model)


def test_compiling_without_a_compiler_or_with_another_attention_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match='needs attention="sdpa", not "varlen"'):
        train(replace(run, speed=Speed(compile=True, attention="varlen")), tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler"):
        kernels.apply(llama(), Speed(compile=True))


def test_compiling_under_zero_3_is_refused_where_the_run_is_made(run: Run) -> None:
    with pytest.raises(ValueError, match=r"zero_stage=3; expected 0, 1 or 2 with Speed.compile"):
        replace(run, zero_stage=3, speed=Speed(compile=True))


def test_lionw_with_a_fused_kernel_is_refused_before_training(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="LionW steps its tensors in its own way"):
        train(replace(run, optim=LionW(1e-3), speed=Speed(optimiser="fused")), tmp_path)
