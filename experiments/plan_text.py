"""A plan as tables of at most 120 columns, from the plain values that `plan.make` collects."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from replication.config import number
from replication.memory import amount

Row = dict[str, Any]
WIDTH = 120


def text(made: Row) -> str:
    """The whole plan: what is bought, each study, its runs and sum, memory, the paper's table, warnings."""
    lines = [_offer(made)]
    for study in made["studies"]:
        own = [row for row in made["runs"] if row["study"] == study["study"]]
        lines += ["", *_study(study, cpu=made["cpu"]), "", *run_table(own, cpu=made["cpu"], within=study["study"])]
    lines += ["", *_study_sums(made), *sums(made["totals"], cpu=made["cpu"])]
    lines += _shards(made["studies"])
    lines += ["", *_memory(made["memory"])] if made["memory"] else []
    lines += ["", *_paper_memory(made["paper_memory"])] if made["paper_memory"] else []
    lines += ["", *_flags(made["flags"])] if made["flags"] else []
    return "\n".join(lines)


def run_table(planned: list[Row], *, cpu: bool = False, within: str = "") -> list[str]:
    """A line per run: where it starts, what it trains anew, what that takes and costs; names `within` a study."""
    planned = [row | {"run": row["run"].removeprefix(f"{within}/")} for row in planned]
    wide = max((len(row["run"]) for row in planned), default=0)
    wide = min(max(wide, 30), WIDTH - 70)
    head = f"{'run':{wide}s} {'from':>6s} {'steps':>6s} {'tokens':>7s} {'examples':>8s} {'GB/GPU':>6s} {'EFLOP':>8s}"
    head += "" if cpu else f" {'GPU-h':>7s} {'cost':>7s}"
    return [f"{head} {'disk GB':>7s}"] + [_run(row, wide, cpu) for row in planned]


def sums(totals: Row, *, cpu: bool = False) -> list[str]:
    """The sum over all runs, in words."""
    lines = [
        f"{totals['runs']} runs; {totals['tokens']:,} tokens in {totals['steps']:,} steps are trained "
        + ("in all" if totals["counted"] == totals["runs"] else f"in the {totals['counted']} whose length is known")
        + f"; {totals['scores']:,} scores"
    ]
    if totals["scored_tokens"] > totals["tokens"]:
        lines.append(f"the lengths scored add up to {totals['scored_tokens']:,} tokens: branches share their trunk")
    if totals["costed"]:
        paid = "" if cpu else f"{totals['gpu_hours']:,.1f} GPU-hours of training, cost {totals['cost']:,.0f}, "
        lines += _plain(
            f"{totals['flops'] / 1e18:,.4g} EFLOP, {paid}checkpoints {amount(totals['checkpoint_bytes'])} GB, and up "
            f"to {amount(2 * totals['state_bytes'])} GB of state for each run under way"
        )
    return lines


# ---------------------------------------------------------------- a study


def _offer(made: Row) -> str:
    offer, runs = made["offer"], len(made["runs"])
    if made["cpu"]:
        return f"scale {made['scale']}: {runs} runs on this machine; --gpus plans them for GPUs"
    return (
        f"scale {made['scale']}: {runs} runs on {offer['gpus']} x {offer['gpu']}, {amount(offer['memory'])} GB; "
        f"assumed: {offer['utilisation']:.0%} of its {offer['peak'] / 1e12:g} TFLOP/s in bf16, {offer['price']:g} a "
        f"GPU-hour\n({offer['source']})"
    )


def _study(study: Row, *, cpu: bool) -> list[str]:
    rows = [
        ("data", _data(study)),
        ("step", _step(study)),
        ("epoch", _epoch(study)),
        ("lengths", ", ".join(map(_length, study["lengths"])) or "not known before `prepare`"),
        ("trained", _trained(study)),
        ("tokens/s", "" if cpu else _speed(study)),
    ]
    title = f": {study['title']}" if study["title"] else ""
    return [study["study"] + title, *(line for name, told in rows if told for line in _wrapped(name, told))]


def _wrapped(name: str, told: str) -> list[str]:
    return textwrap.wrap(told, WIDTH, break_on_hyphens=False, initial_indent=f"  {name:9s}", subsequent_indent=" " * 11)


def _data(study: Row) -> str:
    if study["data_tokens"] is None:
        return f"{study['where']}: {study['size_source']}"
    documents = f"{study['documents']:,} documents, " if study["documents"] else ""
    return f"{study['where']}: {documents}{_tokens(study['data_tokens'])} tokens ({study['size_source']})"


def _step(study: Row) -> str:
    return (
        f"{study['batch']:,} sequences x {study['seq_len']:,} = {study['tokens_per_step']:,} tokens, "
        f"micro-batch {study['micro_batch']} a GPU; warm-up {_warmup(study['warmup'])}"
    )


def _warmup(warmup: float) -> str:
    return f"{warmup:,} steps" if isinstance(warmup, int) else f"{warmup:.0%} of a run"


def _epoch(study: Row) -> str:
    if study["batches_per_epoch"] is None:
        return ""
    batches, packed = study["batches_per_epoch"], study["per_sequence"]
    told = f"{batches:,.2f} batches"
    if not study["instructions"]:
        told += f" ({study['sequences_per_epoch']:,} blocks)"
        repeats = max((length["steps"] for length in study["lengths"]), default=0) / batches
        return told + (f"; the longest reads it {repeats:.2f} times" if repeats > 1.005 else "")
    if packed is None:
        return f"at least {told}: best-fit packing with every sequence full"
    told += f" = {study['documents']:,} examples / {packed} a sequence / {study['batch']}"
    told += f", {round(batches):,} steps in one epoch" if abs(batches - round(batches)) > 1e-9 else ""
    best = study["best_fit_batches"]
    return told + (f"; best-fit packing would give {best:,.1f} at least" if best else "")


def _length(length: Row) -> str:
    unit = {"tokens": "", "epochs": " ep", "steps": " st"}[length["unit"]]
    name = _tokens(length["amount"]) if length["unit"] == "tokens" else f"{length['amount']:g}{unit}"
    cooled = f" ({length['cooldown']:,} cooldown)" if length["cooldown"] else ""
    return f"{name} {length['steps']:,}{cooled}"


def _trained(study: Row) -> str:
    whole = study["parameters"]
    if whole is None:
        return ""
    return ", ".join(f"{arm} {count:,} ({count / whole:.2%})" for arm, count in study["trainable"].items())


def _speed(study: Row) -> str:
    rates = study["tokens_per_second"]
    return ", ".join(f"{arm} {rate:,.0f}" for arm, rate in rates.items()) + " a GPU" if rates else ""


def _tokens(count: float) -> str:
    return number(float(f"{count:.4g}")).upper()


# ---------------------------------------------------------------- runs and sums


def _run(row: Row, wide: int, cpu: bool) -> str:
    tokens = row["length"].replace("epochs", "ep") if row["tokens"] is None else _tokens(row["tokens"])
    examples = "?" if row["examples"] is None else _tokens(row["examples"])
    steps = "?" if row["steps"] is None else f"{row['steps']:,}"
    held = amount(row["memory"]["total"]) if row["memory"] else "?"
    line = f"{row['run']:{wide}s} {row['from_step']:6,} {steps:>6s} {tokens:>7s} {examples:>8s} {held:>6s} "
    return line + _costs(row, cpu)


def _costs(row: Row, cpu: bool) -> str:
    if row["flops"] is None:
        return f"{'?':>8s}" + ("" if cpu else f" {'?':>7s} {'?':>7s}") + f" {'?':>7s}"
    money = "" if cpu else f" {row['gpu_hours']:7,.1f} {row['cost']:7,.0f}"
    return f"{row['flops'] / 1e18:8,.3g}{money} {amount(row['checkpoint_bytes']):>7s}"


def _study_sums(made: Row) -> list[str]:
    if len(made["studies"]) < 2:
        return []
    lines = [f"{'in all':30s} {'runs':>5s} {'steps':>10s} {'tokens':>9s} {'EFLOP':>10s} {'GPU-h':>10s} {'disk GB':>8s}"]
    for study in made["studies"]:
        own = [row for row in made["runs"] if row["study"] == study["study"] and row["flops"] is not None]
        steps, tokens, flops, hours, disk = (
            sum(row[key] for row in own) for key in ("steps", "tokens", "flops", "gpu_hours", "checkpoint_bytes")
        )
        count = sum(row["study"] == study["study"] for row in made["runs"])
        known = "" if len(own) == count else f"  ({len(own)} of them counted)"
        told = "" if made["cpu"] else f"{hours:,.1f}"
        lines.append(
            f"{study['study']:30s} {count:5d} {steps:10,} {_tokens(tokens):>9s} {flops / 1e18:10,.4g} {told:>10s} "
            f"{amount(disk):>8s}{known}"
        )
    return lines


def _shards(studies: Iterable[Row]) -> list[str]:
    sizes = {(study["where"], study["shard_bytes"]) for study in studies if study["shard_bytes"]}
    if not sizes:
        return []
    listed = ", ".join(f"{where} {amount(size)}" for where, size in sorted(sizes))
    return _plain(f"token shards, GB: {listed}")


def _plain(told: str, indent: str = "") -> list[str]:
    return textwrap.wrap(told, WIDTH, break_on_hyphens=False, initial_indent=indent, subsequent_indent=indent + "  ")


# ---------------------------------------------------------------- memory


def _memory(rows: list[Row]) -> list[str]:
    first = rows[0]
    parts = ("weights", "gradients", "optimiser", "activations", "buffers")
    lines = [
        f"memory, GB (1e9 bytes) a GPU of {first['gpus']}, by ZeRO stage (* planned); optimiser holds fp32 masters too",
        f"  {'method':22s} {'batch':>9s} {'stage':>6s} " + " ".join(f"{part:>11s}" for part in (*parts, "total")),
    ]
    for row in rows:
        batch = f"{row['micro_batch']}x{row['seq_len']}"
        star = "*" if row["planned"] else " "
        sizes = " ".join(f"{amount(row[part]):>11s}" for part in (*parts, "total"))
        lines.append(f"  {row['method']:22s} {batch:>9s} {row['stage']:5d}{star} {sizes}")
    how = ["recomputed" if first["recompute"] else "kept", "never held" if first["kernels"] == "fused" else "held"]
    return [*lines, f"  {first['precision']}; activations of the blocks {how[0]}, logits {how[1]}"]


def _paper_memory(content: Row) -> list[str]:
    gpus = content["gpus"]
    head = f"  {'GPUs':34s}" + "".join(f"{n:>12d}" for n in gpus)
    lines = [
        f"the paper's count of weights, gradients and optimiser ({content['table']}), GB a GPU: printed, and by "
        "our formula",
        head,
    ]
    for row in content["compared"]:
        lines.append(f"  {row['label'] + ' printed':34s}" + "".join(f"{value:>12g}" for value in row["printed"]))
        lines.append(f"  {'':{len(row['label'])}s}{' formula':{34 - len(row['label'])}s}" + _values(row["formula"]))
    lines.append("  with the true counts, by that formula, and what the engine holds under ZeRO 3")
    for row in content["ours"]:
        lines.append(f"  {row['label']:18s} {row['share']:7.2%} formula" + _values(row["formula"]))
        lines.append(f"  {'':26s}  engine" + _values(row["engine"]))
    return lines + _plain(_WHY.format(**content), "  ")


_WHY = (
    "The paper takes {billions} billion parameters, {parameters:,} here, and says that LoRA trains 1 % of them, "
    "whatever the rank. The engine holds bf16 weights beside fp32 masters, 2 bytes a trained weight more than the "
    "paper's fp32 weights, in bf16 runs."
)


def _values(sizes: list[float]) -> str:
    return "".join(f"{size:>12.4g}" for size in sizes)


def _flags(flags: list[Row]) -> list[str]:
    return ["beware", *(line for flag in flags for line in _plain("- " + flag["text"], "  "))]
