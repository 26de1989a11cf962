"""What a study would train, before it is paid for: steps, tokens and checkpoints of every run."""

from __future__ import annotations

from replication.config import Run


def rows(runs: list[Run]) -> list[dict[str, object]]:
    """One dict per run. Steps and tokens are None where they depend on data that is not counted yet (epochs)."""
    return [_row(run) for run in runs]


def _row(run: Run) -> dict[str, object]:
    per_step = run.global_batch * run.seq_len
    known = run.budget.unit != "epochs"
    steps = run.steps(run.budget.amount, sequences_per_epoch=1) if known else None
    before = run.branch.at_tokens // per_step if run.branch else 0
    return {
        "run": run.name(),
        "digest": run.digest(),
        "steps": None if steps is None else steps - before,
        "tokens": None if steps is None else (steps - before) * per_step,
        "length": f"{run.budget.amount:g} {run.budget.unit}",
        "batch": run.global_batch,
        "seq_len": run.seq_len,
        "from_step": before,
        "scores": len(run.evals),
    }


def table(planned: list[dict[str, object]]) -> str:
    """The rows as a table, with their sum."""
    lines = [f"{'run':60s} {'steps':>7s} {'tokens':>10s} {'from step':>9s} {'scores':>6s}"]
    for row in planned:
        steps, tokens = (row[key] if row[key] is not None else row["length"] for key in ("steps", "tokens"))
        lines.append(f"{row['run']!s:60s} {steps!s:>7s} {tokens!s:>10s} {row['from_step']!s:>9s} {row['scores']!s:>6s}")
    known = [row["tokens"] for row in planned if isinstance(row["tokens"], int)]
    counted = sum(known)
    lines.append(
        f"{len(planned)} runs; {counted:,} tokens in the {len(known)} whose length is given in tokens or steps"
    )
    return "\n".join(lines)
