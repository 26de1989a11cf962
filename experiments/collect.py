"""From sealed run folders to the tables that everything above reads.

    <into>/<scale>/runs.jsonl             one row per run: what it was, what it cost, which code made it
                   <study>.jsonl          scores
                   <study>.items.jsonl.gz per-item values

Only complete runs are collected, scratch runs never. A run of code that differed from its commit is refused unless
asked for: its rows could not say what made them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from experiments.sweeps import setting_of
from replication.config import LoRA
from replication.results import Items, RunRow, Score, write_rows
from replication.runs import RunDir, find_runs, read_json
from replication.scale import Scale


def collect(scale: Scale, root: Path, into: Path, *, allow_dirty: bool) -> dict[str, int]:
    """Write all tables of a scale; returns the number of score rows by study.

    Raises:
        ValueError: a run was made by code that differed from its commit, and `allow_dirty` is not set.
        FileNotFoundError: there is nothing to collect.
    """
    folders = [f for f in find_runs(root, scale=scale.name) if f.status == "complete"]
    if not folders:
        raise FileNotFoundError(
            f"no complete run under {root / scale.name}; train some with `python -m experiments run`"
        )
    if not allow_dirty:
        _refuse_dirty([*folders, RunDir(root / scale.name / "base")])
    scores: dict[str, list[Score]] = defaultdict(list)
    items: dict[str, list[Items]] = defaultdict(list)
    for folder in [RunDir(root / scale.name / "base"), *folders]:
        study = str(folder.manifest["name"]).split("/")[0] if folder.manifest else "base"
        found_scores, found_items = _scores(folder, scale)
        scores[study] += found_scores
        items[study] += found_items
    base = into / scale.name
    # What was scored and not trained here (published checkpoints) has scores and no run.
    write_rows(base / "runs.jsonl", [_run_row(folder, scale) for folder in folders if "run" in folder.manifest])
    for study in sorted(study for study in scores if scores[study]):  # runs that are only timed have none
        write_rows(base / f"{study}.jsonl", scores[study])
        write_rows(base / f"{study}.items.jsonl.gz", items[study])
    return {study: len(rows) for study, rows in scores.items() if rows}


def _refuse_dirty(folders: list[RunDir]) -> None:
    """A run and each of its scores must come from committed code; a score may be younger than its run."""
    dirty = [folder.path for folder in folders if folder.manifest.get("dirty")]
    files = [file for folder in folders for file in sorted((folder.path / "evals").glob("step_*/*/scores.json"))]
    dirty += [file.parent for file in files if "+dirty" in read_json(file)["code"]]
    if dirty:
        raise ValueError(
            f"{len(dirty)} runs or scores were made by code that is not committed, the first is {dirty[0]}; commit, "
            "remove that folder and make it again, or pass --allow-dirty to collect for yourself"
        )


def _scores(folder: RunDir, scale: Scale) -> tuple[list[Score], list[Items]]:
    """Score and item rows of one run folder."""
    manifest = folder.manifest
    if not manifest:
        return [], []
    name = manifest["name"]
    run = manifest.get("run", {})
    same = {
        "scale": scale.name,
        "study": name.split("/")[0],
        "run": name,
        "digest": manifest["digest"],
        "seed": run.get("seed", 0),
    }
    scores, items = [], []
    for file in sorted((folder.path / "evals").glob("step_*/*/scores.json")):
        content = read_json(file)
        step = content["step"]
        tokens = step * run.get("global_batch", 0) * run.get("seq_len", 0)
        what = {"step": step, "eval": content["spec"]["name"], "eval_version": content["spec"]["version"]}
        for m in content["metrics"]:
            numbers = {"metric": m["name"], "value": m["value"], "n": m["n"], "stderr": m["stderr"]}
            scores.append(Score(**same, **what, **numbers, tokens=tokens, git_sha=content["code"]))
        for i in content["items"]:
            values = {"metric": i["metric"], "ids": tuple(i["ids"]), "values": tuple(i["values"])}
            items.append(Items(**same, **what, **values))
    return scores, items


def _run_row(folder: RunDir, scale: Scale) -> RunRow:
    manifest, run = folder.manifest, folder.run
    if not folder.checkpoints():
        raise FileNotFoundError(f"{folder.path} has no checkpoint; restore it, or remove that folder")
    meta = read_json(folder.checkpoints()[-1] / "meta.json")
    setting = dict(scale.settings).get(setting_of(run.study))
    if setting is None:
        raise ValueError(f"{folder.path} belongs to no setting of scale {scale.name!r}; move that folder elsewhere")
    return RunRow(
        scale=scale.name,
        study=run.study,
        run=run.name(),
        digest=run.digest(),
        seed=run.seed,
        regime=setting.regime,
        method=run.method.label(),
        rank=run.method.rank if isinstance(run.method, LoRA) else None,
        lr=run.optim.lr,
        length=run.budget.amount,
        length_unit=run.budget.unit,
        trunk=run.is_trunk,
        step=meta["step"],
        tokens=meta["tokens"],
        supervised_tokens=meta["supervised_tokens"],
        trainable=manifest["trainable"],
        final_loss=meta["loss"],
        seconds=round(manifest["seconds"], 1),
        git_sha=manifest["code"],
        started=manifest["started"],
        hardware=f"{manifest['hardware']['cpu']}, {manifest['hardware']['threads']} threads"
        + "".join(f", {gpu}" for gpu in manifest["hardware"]["gpus"]),
        variant=run.variant(),
        data=run.task.source.where,
        real_tokens=meta["real_tokens"],
        stored_bytes=sum(path.stat().st_size for path in folder.checkpoints()[-1].glob("*.safetensors")),
        **{
            name: manifest.get(name)
            for name in ("step_seconds", "peak_memory_gb", "gradient_norms", "moved", "tensors")
        },
        losses=_losses(folder) if scale.side else None,
    )


def _losses(folder: RunDir) -> tuple[float, ...]:
    """The losses that a run logged, in the order of its steps."""
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    return tuple(json.loads(line)["loss"] for line in lines)
