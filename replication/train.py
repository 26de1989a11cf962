"""THE loop: one for every method, task and scale.

    for step:  micro-batches of one global batch
               loss of each / count over the whole global batch and all ranks  ->  backward
               clip, step, method's own step
               check, log, save where the ladder says so

The objective is the mean over the positions of the global batch. Accumulation, packing and the number of ranks
therefore do not change it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from replication import (
    attention,  # noqa: F401  registers "varlen"
    checkpoints,
    health,
    kernels,
    memory,
    optim,
    preemption,
    seeding,
    shapes,
)
from replication import engine as engines
from replication.checkpoints import Meta
from replication.config import Run
from replication.costs import Costs, forget_peak
from replication.engine import Engine
from replication.gradients import accumulate, over_ranks
from replication.methods import Attached, attach
from replication.mirror import Mirror, open_mirror
from replication.models import form_of, identity, load_model, tokenizer_of
from replication.runs import RunDir, append_line, drop_lines_after, folder_of, locked, open_run, recorded, retrain
from replication.tasks import Stream, open_stream

LOG_EVERY = 10
GRADIENTS_EVERY = 50
# LoRA's A moves from the third step on, where a warm-up begins at rate 0: first B moves, then A has a gradient.
MOVED_AFTER = 4


@dataclass(frozen=True)
class Progress:
    """What the loop tells whoever watches: steps done of all, and the last loss in nats per position."""

    run: str
    step: int
    total: int
    loss: float


@dataclass(frozen=True)
class Told:
    """Who is told how a run goes on: whoever watches, at every step, and a dashboard, of every row of the metrics."""

    watch: Callable[[Progress], None]
    mirror: Mirror | None

    def row(self, folder: RunDir, row: dict[str, float | int]) -> None:
        """Write a row of the metrics, and mirror it."""
        append_line(folder.path / "metrics.jsonl", row)
        if self.mirror:
            self.mirror.log(row)


@dataclass(frozen=True)
class Stage:
    """Everything one run needs on the stage before its first step."""

    run: Run
    folder: RunDir
    engine: Engine
    attached: Attached
    stream: Stream
    rungs: dict[int, bool]
    begin: Meta

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return max(self.rungs)


def train(
    run: Run,
    root: Path,
    *,
    watch: Callable[[Progress], None] | None = None,
    save_seconds: float = 60.0,
    mirror: str | None = None,
) -> RunDir:
    """Train a run to its end under `root`, from wherever it stands; a finished run is left alone.

    Args:
        root: folder of all runs; token shards are cached in `root/cache`.
        watch: called after every step on the first rank.
        save_seconds: time between checkpoints to resume from, beyond those of the ladder; 0 saves after every step.
        mirror: wandb, trackio or tensorboard, to show the metrics there too.

    Raises:
        ValueError: bad data or configuration, found before training.
        TrainingFailed: the run does not train.
        Preempted: the machine is wanted back; the run is saved and the same call continues it.
    """
    engines.join_process_group()
    folder = folder_of(run, root)
    with contextlib.ExitStack() as held:
        if _first_rank():
            held.enter_context(locked(folder))
            open_run(run, root)
        torch.distributed.barrier()
        if folder.status == "complete":
            return folder
        torch.distributed.barrier()
        if _first_rank():
            held.enter_context(recorded(folder))
        held.enter_context(kernels.compiling_anew(run.speed))
        floor = forget_peak()
        with _naming_lack_of_memory(run):
            stage = set_up(run, folder, root)
            held.callback(stage.engine.close)
            shown = open_mirror(mirror, run, folder.path) if _first_rank() else None
            if shown:
                held.callback(shown.close)
            _loop(stage, Told(watch or _silent, shown), save_seconds, Costs(floor))
        if _first_rank():
            checkpoints.thin(folder, stage.rungs)
    # Where a launcher ends the job soon after the first rank that leaves, none may leave before the manifest is sealed.
    torch.distributed.barrier()
    return folder


def set_up(run: Run, folder: RunDir, root: Path) -> Stage:
    """Load data and model, attach the method, start the engine, and go to where the run stands."""
    _leave_if_asked(run)
    stream = open_stream(run, tokenizer_of(run), cache=root / "cache")
    _leave_if_asked(run)
    inputs = {"data_digest": stream.digest, "model_digest": identity(run.model)}
    _check_inputs(inputs, folder)
    if run.branch is not None:
        _check_inputs(inputs, _parent(run, folder))
    rungs = checkpoints.ladder(run, sequences_per_epoch=stream.size)
    base = _base(run)
    expected = health.expected_trainable(base, run.method)
    attached = attach(base, run.method, seed=seeding.derive(run.seed, "init"), steps=max(rungs))
    attached.model.train()
    trainable = health.check_trainable(attached.trainable, run.method.label())
    health.check_expected(attached.trainable, expected, run.method.label())
    _leave_if_asked(run)
    engine = start_engine(run, attached)
    begin = _resume(run, folder, engine, total=max(rungs))
    if _first_rank():
        folder.update(trainable=trainable, sequences=stream.size, steps=max(rungs), **inputs)
    return Stage(run, folder, engine, attached, stream, rungs, begin)


def _base(run: Run) -> PreTrainedModel:
    """The base model in fp32, with what makes its steps cheaper; DeepSpeed rounds what it computes with."""
    changed: dict[str, object] = {"attn_implementation": run.speed.attention}
    changed |= {"attention_dropout": run.attention_dropout} if run.attention_dropout else {}
    model = load_model(run.model, form=form_of(run), config=changed)
    room = getattr(model.config, "max_target_positions", run.seq_len)
    if run.seq_len > room:
        raise ValueError(f"Run.seq_len={run.seq_len}; the decoder of {run.model} reads {room} tokens at most")
    if run.speed.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    kernels.apply(model, run.speed)
    return model


def start_engine(run: Run, attached: Attached) -> Engine:
    """The engine of a run, its masters exactly the weights that were attached."""
    exact = {}
    if run.precision == "bf16":
        # DeepSpeed gives each parameter a new, rounded tensor; these keep the old one.
        exact = {name: p.detach() for name, p in attached.trainable.items()}
    engine = engines.start(run, attached)
    if exact:
        engine.set_masters(exact)
    return engine


def _loop(stage: Stage, told: Told, save_seconds: float, costs: Costs) -> None:
    run, engine = stage.run, stage.engine
    meta, total = stage.begin, stage.total
    before = health.fingerprint(engine.weights())
    saved = began = time.monotonic()
    cost = 0.0
    real, spent = meta.real_tokens, meta.seconds
    for step in range(meta.step, total):
        batches = _batches(stage, step)
        clock = time.monotonic()
        loss, count = accumulate(
            engine, batches, seed=seeding.derive(run.seed, "dropout", step),
            objective=stage.stream.objective, penalty=stage.attached.penalty,
        )  # fmt: skip
        health.check_loss(loss, step + 1)
        if step % GRADIENTS_EVERY == 2 or (step > 2 and not costs.gradient_norms):  # after a resume, soon
            costs.gradient_norms = health.check_gradients(engine.gradient_norms(), step + 1)
        rate = optim.factor(run.schedule, step, total)
        logged = step + 1 in (1, total) or (step + 1) % LOG_EVERY == 0
        norm, changed = _step(engine, rate, measured=logged)
        stage.attached.on_step(step, run.optim.lr * rate)
        costs.step_seconds.append(time.monotonic() - clock)
        meta = _advance(meta, run, stage.stream.real_tokens(step, run.global_batch), count, loss)
        if _first_rank():
            told.watch(Progress(run.name(), meta.step, total, loss))
            if logged:
                rate_now = (meta.real_tokens - real) / (time.monotonic() - began)
                told.row(stage.folder, _metrics(meta, run, rate, norm, rate_now) | changed)
        # A state of many gigabytes is not saved every minute: at most a twentieth of the time goes into saving.
        pause = max(save_seconds, 20 * cost) if save_seconds else 0.0
        due, leave = _agree(time.monotonic() - saved > pause, preemption.asked())
        if meta.step == total:
            _prove(stage, before, costs)
        if meta.step in stage.rungs or due or leave:
            saving = time.monotonic()
            meta = replace(meta, seconds=spent + saving - began)
            _save(stage, meta)
            saved = time.monotonic()
            cost = saved - saving
        if leave and meta.step < total:
            raise preemption.Preempted(f"{run.name()} is saved at step {meta.step} of {total}")


def _batches(stage: Stage, step: int) -> list[dict[str, torch.Tensor]]:
    """This rank's micro-batches of a step."""
    rank, world = torch.distributed.get_rank(), stage.engine.world
    return stage.stream.micro_batches(
        step, batch=stage.run.global_batch, micro=stage.engine.micro_batch, rank=rank, world=world
    )


def _prove(stage: Stage, before: dict[str, tuple[float, float]], costs: Costs) -> None:
    """At the end: what was trained moved, what makes steps fast was called; both, and the costs, are written down."""
    run, after = stage.run, health.fingerprint(stage.engine.weights())
    # Without masters a norm's weights stay at 1 for good: the next bf16 number is .004 away. What is left of a
    # cooldown after a resume may be too small for a weight of 2 in fp32.
    every = stage.begin.step == 0 and stage.total >= MOVED_AFTER and run.precision != "pure_bf16"
    health.check_moved(before, after, every=every, may_rest=stage.attached.may_rest)
    kernels.check_called(stage.engine.model, run.speed)
    if _first_rank():
        stage.folder.update(**costs.record(before, after))


def _step(engine: Engine, rate: float, *, measured: bool) -> tuple[float, dict[str, float]]:
    """One optimiser step: the gradient's norm and, if measured, which shares of weights and masters it changed."""
    before = engine.sample() if measured else None
    norm = engine.step(rate)
    if before is None:
        return norm, {}
    shares = [health.share_changed(*pair) for pair in zip(before, engine.sample(), strict=True)]
    return norm, {"weights_changed": round(shares[0], 6), "masters_changed": round(shares[1], 6)}


def _save(stage: Stage, meta: Meta) -> None:
    """A checkpoint at this step; the one before it that only a resume needed goes."""
    rung = meta.step in stage.rungs
    last = meta.step == stage.total
    # A trunk's rungs are to branch from, and nobody scores them: their state is enough.
    weights = last or (rung and not stage.run.is_trunk)
    checkpoints.save(stage.folder, stage.engine, meta, weights=weights, resumable=stage.rungs.get(meta.step, True))
    if _first_rank():
        checkpoints.drop_passed(stage.folder, stage.rungs, meta.step)
        stage.folder.update(seconds=meta.seconds)


def _check_inputs(inputs: dict[str, str], begun: RunDir) -> None:
    """Refuse to go on with other data or another base than the run, or the trunk of a branch, began with.

    Raises:
        ValueError: names what changed.
    """
    for name, now in inputs.items():
        before = begun.manifest.get(name, now)
        if before != now:
            what = name.removesuffix("_digest")
            raise ValueError(
                f"the {what} of {begun.path} changed since it began ({before}, now {now}); "
                "restore it, or remove that folder to train anew"
            )


def _parent(run: Run, folder: RunDir) -> RunDir:
    """The run that a branch starts from; both lie under the same scale."""
    assert run.branch is not None
    return RunDir(folder.path.parent.parent / run.branch.parent)


def _leave_if_asked(run: Run) -> None:
    """Before what takes minutes and saves nothing.

    Raises:
        Preempted: the machine is wanted back.
    """
    if _agree(False, preemption.asked())[1]:
        raise preemption.Preempted(f"{run.name()} leaves before its next step")


def _resume(run: Run, folder: RunDir, engine: Engine, *, total: int) -> Meta:
    """Load the furthest state of this run, else of the checkpoint that it branches from, else start at 0.

    A run that was killed between its last checkpoint and the seal of its manifest has nothing left to do.
    """
    if (folder.checkpoint(total) / "meta.json").is_file():
        return checkpoints.read_meta(folder.checkpoint(total))
    path = checkpoints.latest_resumable(folder)
    if path is None and run.branch is not None:
        step = run.branch.at_tokens // (run.global_batch * run.seq_len)
        path = _parent(run, folder).checkpoint(step)
        if not path.is_dir():
            raise FileNotFoundError(f"{run.name()} branches from {path}, which is missing; train {run.branch.parent}")
    meta = Meta(0, 0, 0, 0, 0.0) if path is None else checkpoints.read_meta(path)
    if path is not None:
        own = path.parent.parent == folder.path
        engine.load(path / "resume", mend=f"remove {path} and run again" if own else retrain(path))
        meta = meta if own else replace(meta, seconds=0.0)  # the trunk's time is the trunk's
    if _first_rank():
        drop_lines_after(folder.path / "metrics.jsonl", meta.step)
        for torn in (folder.path / "checkpoints").glob("*.partial"):
            shutil.rmtree(torn)
    return meta


def _advance(meta: Meta, run: Run, real: int, count: int, loss: float) -> Meta:
    return Meta(
        step=meta.step + 1,
        tokens=meta.tokens + run.global_batch * run.seq_len,
        real_tokens=meta.real_tokens + real,
        supervised_tokens=meta.supervised_tokens + count,
        loss=loss,
        seconds=meta.seconds,
    )


def _metrics(meta: Meta, run: Run, rate: float, norm: float, tokens_per_second: float) -> dict[str, float | int]:
    return {
        "step": meta.step,
        "tokens": meta.tokens,
        "real_tokens": meta.real_tokens,
        "supervised_tokens": meta.supervised_tokens,
        "loss": meta.loss,
        "lr": run.optim.lr * rate,
        "grad_norm": norm,
        "tokens_per_s": round(tokens_per_second, 1),
    }


def _agree(due: bool, leave: bool) -> tuple[bool, bool]:
    """Whether any rank's clock asks for a checkpoint, and whether any is asked to leave: all must save together."""
    # 1 for a rank that is due, 2**20 for one that must leave: one reduction for both.
    both = int(over_ranks(due + (leave << 20), torch.device("cuda" if torch.cuda.is_available() else "cpu")))
    return bool(both & (1 << 20) - 1), both >= 1 << 20


@contextlib.contextmanager
def _naming_lack_of_memory(run: Run) -> Iterator[None]:
    """Turn running out of memory into an error that says what the plan expected and what to change.

    Raises:
        RuntimeError: out of memory.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        told = str(error).lower()
        if not any(words in told for words in ("out of memory", "can't allocate memory")):
            raise
        world = torch.distributed.get_world_size()
        planned = memory.describe(memory.estimate(shapes.of_model(run.model), run, world=world))
        raise RuntimeError(
            f"out of memory in {run.name()} on {world} ranks ({str(error).splitlines()[0]}); the plan's estimate for a "
            f"rank is {planned}; lower micro_batch ({run.micro_batch}), raise zero_stage ({run.zero_stage}), set "
            "speed.recompute, or take more ranks"
        ) from error


def _first_rank() -> bool:
    return torch.distributed.get_rank() == 0


def _silent(progress: Progress) -> None:
    del progress
