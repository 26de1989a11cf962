"""How much slower LoRA trains and how much memory it saves, against full fine-tuning.

Two sources, and each row says which:

    the study's runs      1 - tokens/s of LoRA over those of full fine-tuning, in pairs of the same setting, length and
                          seed. They trained several at a time on a shared machine, so a pair's two runs met different
                          loads: read the interval, not the value.
    throughput.jsonl      `python -m replication.benchmark_batch`, arms in turns on one machine (Figure S10). A table
                          that this module reads and does not make.

    slower              from the runs, mean over ranks; slower_<arm> each. Pairs of setting and length stand for items
    slower_benchmark    from the benchmark's processor time, mean over ranks; batch sizes stand for items
    memory_small        1 - peak memory of LoRA over full at the smallest batch; ranks stand for items
    memory_large        the same at the largest batch
    ..._net             with what a process holds before it loads a model taken off both sides: on a CPU and a model of
                        a million weights the libraries are most of the peak
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import command, effects, grid, rows
from replication.results import RunRow
from replication.stats import contrast

MAKE = "python -m replication.benchmark_batch --out"


def slower(tables: grid.Tables) -> list[rows.Row]:
    """Slow-down of every LoRA arm and of their mean, from the study's own runs, per setting and over all."""
    made = []
    names = [study for study, _ in tables.scale.settings]
    for setting, studies in [*((name, [name]) for name in names), (effects.ALL, names)]:
        found = {arm: _pairs(tables, studies, arm) for arm in grid.arms(tables.scale)[1:]}
        whole = {arm: values for arm, values in found.items() if values is not None}
        for arm, values in whole.items():
            made.append(_of_runs(f"slower_{arm}", setting, arm, values))
        if whole and len({values.shape for values in whole.values()}) == 1:
            mean = np.mean(list(whole.values()), axis=0)
            made.append(_of_runs("slower", setting, ", ".join(whole), mean))
    return made


def _of_runs(quantity: str, setting: str, arm: str, values: np.ndarray) -> rows.Row:
    pairs = values.shape[0] * values.shape[1]
    words = (
        f"1 - tokens/s of {arm} over full in {pairs} pairs of runs (setting, length and seed alike), trained several "
        "at a time on a shared machine"
    )
    return effects.row(quantity, setting, words, contrast([values]))


def _pairs(tables: grid.Tables, studies: Sequence[str], arm: str) -> np.ndarray | None:
    """Slow-down in every pair at the seeds that all (setting, length) have, shape (seeds, pairs); None if under two.

    Both runs of a pair trained the same tokens, so whether a branch's time contains its trunk's (rows before November
    22nd, 18:00) or not cancels within a pair.
    """
    columns: list[dict[int, float]] = []
    for study in studies:
        found = {key: row for key, row in grid.cells(tables, study).items() if isinstance(row, RunRow)}
        for length in grid.settings(tables.scale)[study].lengths:
            both = [s for a, n, s in found if (a, n) == (arm, length) and ("full", length, s) in found]
            # Seconds are kept to a tenth: 0 is a time too short to be one.
            seeds = [s for s in both if found[arm, length, s].seconds and found["full", length, s].seconds]
            speeds = {s: (_speed(found[arm, length, s]), _speed(found["full", length, s])) for s in seeds}
            if speeds:
                columns.append({s: 1 - lora / full for s, (lora, full) in speeds.items()})
    shared = sorted(set.intersection(*map(set, columns))) if columns else []
    if len(columns) < 2 or not shared:
        return None
    return np.array([[column[seed] for column in columns] for seed in shared])


def _speed(row: RunRow) -> float:
    return row.tokens / row.seconds


def from_benchmark(table: Sequence[rows.Row]) -> list[rows.Row]:
    """Speed and memory of LoRA against full fine-tuning from the rows of `throughput.jsonl`."""
    at = {(row["arm"], row["batch"]): row for row in table}
    arms = sorted({row["arm"] for row in table} - {"full"}, key=lambda arm: grid.rank_of(arm) or 0)
    batches = sorted({batch for arm, batch in at if arm == "full"})
    batches = [b for b in batches if all((arm, b) in at for arm in arms)]
    if not arms or not batches:
        return []
    hardware = at["full", batches[0]]["hardware"]
    made = []
    if len(batches) > 1:
        speeds = [[_less(at[arm, b], at["full", b], "tokens_per_cpu_s") for b in batches] for arm in arms]
        words = f"1 - tokens per processor second of {', '.join(arms)} over full, batches {batches}, {hardware}"
        made.append(effects.row("slower_benchmark", effects.ALL, words, contrast([np.mean(speeds, axis=0)[None]])))
    for quantity, batch in (("memory_small", batches[0]), ("memory_large", batches[-1])):
        for suffix, net in (("", False), ("_net", True)):
            saved = [_memory_saved(at[arm, batch], at["full", batch], net=net) for arm in arms]
            if len(saved) > 1:
                less = " less what it held before the model" if net else ""
                words = f"1 - peak memory{less} of {', '.join(arms)} over full at batch {batch}, {hardware}"
                made.append(effects.row(quantity + suffix, effects.ALL, words, contrast([np.array([saved])])))
    return made


def _less(lora: rows.Row, full: rows.Row, field: str) -> float:
    return 1 - float(lora[field]) / float(full[field])


def _memory_saved(lora: rows.Row, full: rows.Row, *, net: bool) -> float:
    sides = [row["peak_memory_gb"] - (row["floor_memory_gb"] if net else 0.0) for row in (lora, full)]
    return 1 - float(sides[0] / sides[1])


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write `throughput_effects.jsonl`; returns what is missing, such as the benchmark's table."""
    path = where.out / "throughput.jsonl"
    table = rows.read(path) if path.is_file() else []
    rows.write(where.out / "throughput_effects.jsonl", [*slower(tables), *from_benchmark(table)])
    return [] if table else [grid.Missing("throughput", "every arm", 0.0, None, f"the table of `{MAKE} {where.out}`")]


def main() -> None:
    """Write the estimates and say what is missing."""
    here = command.places(__doc__)
    missing = write(grid.load(here.scale, here.results), here)
    print(f"rows in {here.out / 'throughput_effects.jsonl'}")
    for gap in missing:
        print(f"missing: {gap.what}")


if __name__ == "__main__":
    command.run(main)
