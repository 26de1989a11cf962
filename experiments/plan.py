"""What a study would train, before it is paid for: steps, memory, GPU-hours, disk and cost of every run.

    runs + scale + offer --make--> one dict (what --json prints) --plan_text--> tables for people

Nothing is downloaded, and nothing but the standard library is loaded: the size of a model comes from its folder or a
table (replication.shapes), the size of data from prepared shards or from the setting.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments import estimate, paper, plan_flags, plan_text, sweeps
from experiments.estimate import CARDS, Data, Offer
from replication import memory
from replication.config import AdamW, Full, LoRA, Run, Trapezoid
from replication.scale import Scale, Setting
from replication.shapes import Shape, of_model, parameters, trainable

Row = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command beside the shared ones."""
    group = parser.add_argument_group("what is bought", "the defaults are assumptions, not measurements")
    group.add_argument("--gpu", choices=tuple(CARDS), default="h100", help="card (default h100)")
    group.add_argument("--gpus", type=int, help="number of them side by side in one run (default: the scale's, or 1)")
    group.add_argument("--utilisation", type=float, default=0.4, help="share of the bf16 peak reached (default .4)")
    group.add_argument("--price", type=float, default=2.5, help="of one GPU-hour, in your currency (default 2.5)")


def report(runs: list[Run], scale: Scale, options: argparse.Namespace) -> str:
    """The plan of these runs, as text or, with `options.json`, as one JSON object."""
    offer = Offer(
        options.gpu, scale.gpus or 1 if options.gpus is None else options.gpus, options.utilisation, options.price
    )
    cpu = not scale.gpus and options.gpus is None
    made = make(runs, scale, offer, cache=options.runs / "cache", cpu=cpu)
    return json.dumps(made, indent=1) if options.json else plan_text.text(made)


def make(runs: list[Run], scale: Scale, offer: Offer, *, cache: Path | None = None, cpu: bool = False) -> Row:
    """The whole plan as plain values: offer, studies, runs, totals, memory, the paper's tables, flags.

    `cpu` leaves hours and costs off the tables, which are of GPUs.
    """
    known = [_Known.of(run, scale, offer, cache) for run in runs]
    shape = next((item.shape for item in known if item.shape is not None), None)
    planned = [_row(item, offer) for item in known]
    return {
        "scale": scale.name,
        "offer": asdict(offer) | {"peak": offer.card.peak, "memory": offer.card.memory, "source": offer.card.source},
        "cpu": cpu,
        "studies": _studies(known, offer),
        "runs": planned,
        "totals": totals(planned),
        "memory": _memory_rows(known, offer),
        "paper_memory": _paper_memory(shape, [item.run for item in known]) if shape else None,
        "flags": plan_flags.flags(runs, gpus=offer.gpus)
        + _lora_speed(runs, cpu)
        + _memory_flags(known, offer)
        + _unknown_models(known),
    }


# ---------------------------------------------------------------- runs


@dataclass(frozen=True)
class _Known:
    """A run, and what can be said of its model and data beforehand."""

    run: Run
    setting: Setting | None
    shape: Shape | None
    data: Data
    memory: memory.Memory | None

    @classmethod
    def of(cls, run: Run, scale: Scale, offer: Offer, cache: Path | None) -> _Known:
        setting = dict(scale.settings).get(sweeps.setting_of(run.study))
        if setting is None:
            setting = next((s for _, s in scale.settings if s.task.source == run.task.source), None)
        shape = _shape(run.model)
        held = memory.estimate(shape, run, world=offer.gpus) if shape else None
        return cls(run, setting, shape, estimate.data_of(run.task, setting, cache=cache), held)

    @property
    def per_epoch(self) -> int | None:
        """Sequences of an epoch."""
        return estimate.sequences(self.run.task, self.data, seq_len=self.run.seq_len)


def _shape(model: str) -> Shape | None:
    try:
        return of_model(model)
    except (FileNotFoundError, ValueError):
        return None


def _row(item: _Known, offer: Offer) -> Row:
    run, per_epoch = item.run, item.per_epoch
    per_step = run.global_batch * run.seq_len
    counted = run.budget.unit != "epochs" or per_epoch is not None
    end = run.steps(run.budget.amount, sequences_per_epoch=per_epoch or 1) if counted else None
    before = run.branch.at_tokens // per_step if run.branch else 0
    steps = None if end is None else end - before
    row = {
        "run": run.name(),
        "study": run.study,
        "digest": run.digest(),
        "method": run.method.label(),
        "trunk": run.is_trunk,
        "length": f"{run.budget.amount:g} {run.budget.unit}",
        "from_step": before,
        "end_step": end,
        "steps": steps,
        "tokens": None if steps is None else steps * per_step,
        "end_tokens": None if end is None else end * per_step,
        "examples": None if steps is None else steps * run.global_batch * (getattr(run.task, "per_sequence", 0) or 1),
        "batch": run.global_batch,
        "seq_len": run.seq_len,
        "batches_per_epoch": None if per_epoch is None else per_epoch / run.global_batch,
        "trainable": trainable(item.shape, run.method) if item.shape else None,
        "memory": _memory(item.memory) if item.memory else None,
        "scores": len(run.evals) * (len(run.ladder) or 1),
    }
    return row | _costs(item, row, offer)


def _costs(item: _Known, row: Row, offer: Offer) -> Row:
    if item.shape is None or row["tokens"] is None:
        return dict.fromkeys(("flops", "gpu_hours", "hours", "cost", "checkpoint_bytes", "state_bytes"))
    flops = row["tokens"] * estimate.flops_per_token(item.shape, item.run)
    hours = offer.gpu_hours(flops)
    kept, resumable = estimate.rungs(item.run, sequences_per_epoch=item.per_epoch or 1)
    state = estimate.state_bytes(item.shape, item.run)
    return {
        "flops": flops,
        "gpu_hours": hours,
        "hours": hours / offer.gpus,
        "cost": hours * offer.price,
        "checkpoint_bytes": kept * estimate.weights_bytes(item.shape, item.run) + resumable * state,
        "state_bytes": state,
    }


def totals(planned: Sequence[Row]) -> Row:
    """Sums over the runs whose numbers are known, and how many those are."""
    known = [row for row in planned if row["tokens"] is not None]
    costed = [row for row in known if row["flops"] is not None]
    summed = {
        key: sum(row[key] for row in costed) for key in ("flops", "gpu_hours", "hours", "cost", "checkpoint_bytes")
    }
    return {
        "runs": len(planned),
        "counted": len(known),
        "costed": len(costed),
        "steps": sum(row["steps"] for row in known),
        "tokens": sum(row["tokens"] for row in known),
        "scored_tokens": sum(row["end_tokens"] for row in known if not row["trunk"]),
        "scores": sum(row["scores"] for row in planned),
        "state_bytes": max((row["state_bytes"] for row in costed), default=0),
    } | summed


# ---------------------------------------------------------------- studies


def _studies(known: list[_Known], offer: Offer) -> list[Row]:
    """What the runs of a study share: data, step, epoch, lengths."""
    first: dict[str, list[_Known]] = {}
    for item in known:
        first.setdefault(item.run.study, []).append(item)
    return [_study(name, items, offer) for name, items in first.items()]


def _study(name: str, items: list[_Known], offer: Offer) -> Row:
    run, data, shape = items[0].run, items[0].data, items[0].shape
    full = estimate.best_fit(run.task, data, seq_len=run.seq_len)
    per_epoch = items[0].per_epoch
    return {
        "study": name,
        "title": items[0].setting.title if items[0].setting else "",
        "where": run.task.source.where,
        "documents": data.documents,
        "data_tokens": data.tokens,
        "size_source": data.source,
        "tokens_per_step": run.global_batch * run.seq_len,
        "batch": run.global_batch,
        "seq_len": run.seq_len,
        "micro_batch": run.micro_batch,
        "per_sequence": getattr(run.task, "per_sequence", None),
        "sequences_per_epoch": per_epoch,
        "batches_per_epoch": None if per_epoch is None else per_epoch / run.global_batch,
        "best_fit_batches": None if full is None else full / run.global_batch,
        "instructions": hasattr(run.task, "template"),
        "lengths": _lengths(items),
        "warmup": run.schedule.warmup,
        "parameters": parameters(shape) if shape else None,
        "trainable": {i.run.method.label(): trainable(i.shape, i.run.method) for i in items if i.shape},
        "tokens_per_second": {
            i.run.method.label(): offer.utilisation * offer.card.peak / estimate.flops_per_token(i.shape, i.run)
            for i in items
            if i.shape
        },
        "shard_bytes": estimate.shard_bytes(run.task, data, shape) if shape else None,
    }


def _lengths(items: list[_Known]) -> list[Row]:
    """Every length of a study once, as it was asked for: steps in all, and those of its cooldown. A trunk is none."""
    found: dict[tuple[str, int], Row] = {}
    for item in items:
        run = item.run
        if run.is_trunk or (run.budget.unit == "epochs" and item.per_epoch is None):
            continue
        for amount in run.ladder or (run.budget.amount,):
            steps = run.steps(amount, sequences_per_epoch=item.per_epoch or 1)
            cooldown = round(run.schedule.cooldown * steps) if isinstance(run.schedule, Trapezoid) else None
            asked = _asked(amount, steps, item)
            about = {"amount": asked, "unit": run.budget.unit, "steps": steps, "cooldown": cooldown}
            found.setdefault((run.budget.unit, steps), about)
    return sorted(found.values(), key=lambda row: row["amount"])


def _asked(amount: float, steps: int, item: _Known) -> float:
    """The setting's own length, which the run rounds to whole steps."""
    lengths = item.setting.lengths if item.setting and item.run.budget.unit == "tokens" else ()
    return next((length for length in lengths if item.run.steps(length, sequences_per_epoch=1) == steps), amount)


# ---------------------------------------------------------------- memory


def _memory(held: memory.Memory) -> Row:
    return asdict(held) | {"states": held.states, "total": held.total}


def _memory_rows(known: list[_Known], offer: Offer) -> list[Row]:
    """Each kind of run once (method, optimiser, batch, precision), under every ZeRO stage."""
    found: dict[str, list[Row]] = {}
    for item in known:
        run = item.run
        key = f"{run.method.label()}/{type(run.optim).__name__}/{run.micro_batch}x{run.seq_len}/{run.precision}"
        if item.shape is None or key in found:
            continue
        about = {
            "study": run.study, "method": run.method.label(), "optimiser": type(run.optim).__name__,
            "micro_batch": run.micro_batch, "seq_len": run.seq_len, "precision": run.precision,
            "recompute": run.speed.recompute, "kernels": run.speed.kernels, "gpus": offer.gpus,
        }  # fmt: skip
        stages = memory.by_stage(item.shape, run, world=offer.gpus).items()
        found[key] = [about | {"stage": s, "planned": s == run.zero_stage} | _memory(held) for s, held in stages]
    return [row for rows in found.values() for row in rows]


def _paper_memory(shape: Shape, runs: list[Run]) -> Row | None:
    """The paper's table for a model of this size: as printed, by its formula, and by its formula for our counts."""
    size = estimate.size_in_billions(shape)
    printed = [cell for cell in paper.MEMORY if cell.parameters == size * 1e9]
    if not printed:
        return None
    gpus = sorted({cell.gpus for cell in printed})
    compared = []
    for adam, lora in ((True, False), (True, True), (False, False), (False, True)):
        counted = [memory.paper_count(size * 1e9, adam=adam, lora=lora, world=n).total / 1e9 for n in gpus]
        cells = {c.gpus: c.gigabytes for c in printed if (c.optimizer == "adam", c.lora) == (adam, lora)}
        label = ("Adam" if adam else "Lion") + ("+LoRA" if lora else "")
        compared.append({"label": label, "printed": [cells[n] for n in gpus], "formula": counted})
    ours = []
    for label, run in {run.method.label(): run for run in runs}.items():
        share = trainable(shape, run.method) / parameters(shape)
        three = replace(run, zero_stage=3)
        ours.append({
            "label": label,
            "share": share,
            "formula": [_by_formula(shape, share, run, n) for n in gpus],
            "engine": [memory.estimate(shape, three, world=n).states / 1e9 for n in gpus],
        })  # fmt: skip
    return {
        "table": printed[0].source,
        "parameters": parameters(shape),
        "billions": size,
        "gpus": gpus,
        "compared": compared,
        "ours": ours,
    }


def _by_formula(shape: Shape, share: float, run: Run, gpus: int) -> float:
    lora, adam = isinstance(run.method, LoRA), isinstance(run.optim, AdamW)
    return memory.paper_count(parameters(shape), adam=adam, lora=lora, world=gpus, share=share).total / 1e9


# ---------------------------------------------------------------- flags


def _lora_speed(runs: list[Run], cpu: bool) -> list[Row]:
    kinds = {type(run.method) for run in runs}
    if cpu or not {Full, LoRA} <= kinds:
        return []
    text = (
        "one utilisation for all arms makes LoRA quicker, by the gradients it spares; the paper measured it about 15 % "
        "slower than full fine-tuning (appendix I): plan LoRA by itself (--only lora) with a lower --utilisation"
    )
    return [{"kind": "lora_speed", "study": "", "text": text, "runs": []}]


def _memory_flags(known: list[_Known], offer: Offer) -> list[Row]:
    found: dict[str, Row] = {}
    for item in known:
        if item.shape is None or item.memory is None or item.memory.total <= offer.card.memory:
            continue
        run = item.run
        mended = replace(run, speed=replace(run.speed, recompute=True), micro_batch=1, zero_stage=3)
        least = memory.estimate(item.shape, mended, world=offer.gpus).total
        text = (
            f"{run.study}, {run.method.label()}: {memory.amount(item.memory.total)} GB a GPU, more than the "
            f"{memory.amount(offer.card.memory)} of {offer.gpu}; {memory.amount(least)} with a micro-batch of 1, "
            "recomputation and ZeRO 3"
        )
        row = {"kind": "memory", "study": run.study, "text": text, "runs": []}
        found.setdefault(f"{run.study}/{run.method.label()}", row)["runs"].append(run.name())
    return list(found.values())


def _unknown_models(known: list[_Known]) -> list[Row]:
    names = dict.fromkeys(item.run.model for item in known if item.shape is None)
    return [
        {"kind": "unknown_model", "study": "", "runs": [], "text": f"the sizes of {name} are not known here: no "
         "memory, GPU-hours or disk; put its config.json into a folder and name that"}
        for name in names
    ]  # fmt: skip
