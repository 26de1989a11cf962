"""The model card of a published run, made from its manifest and scores alone: nothing in it is typed by hand.

YAML in front, which the hub reads, then what the run is, how to load it, its scores, every hyperparameter, its data and
what made it. JSON strings are valid YAML, so values are quoted as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from replication.runs import RunDir, read_json

PAPER = "[LoRA Learns Less and Forgets Less](https://arxiv.org/abs/2405.09673)"
TAG = "lora-learns-less-and-forgets-less"
_NO_LICENSE = "# license: not chosen. Add one before others use this: those of the base and the data may bind it."


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one eval."""

    eval: str
    version: str
    metric: str
    value: float
    n: int
    stderr: float | None
    code: str


@dataclass(frozen=True)
class Facts:
    """What the card is made of. `base` is a hub id, or None where the base is on no hub; `dtype` as torch names it."""

    manifest: dict[str, Any]
    meta: dict[str, Any]
    scores: list[ScoreRow]
    base_scores: list[ScoreRow]
    base: str | None
    datasets: list[str]
    adapter: bool
    to: str
    branch: str | None
    dtype: str
    license_id: str | None
    command: str | None

    @property
    def run(self) -> dict[str, Any]:
        """The run as encoded in the manifest."""
        return self.manifest["run"]


def scores(folder: RunDir, step: int) -> list[ScoreRow]:
    """The scores of a run's checkpoint, by eval."""
    found = []
    for file in sorted((folder.path / "evals" / f"step_{step:06d}").glob("*/scores.json")):
        content = read_json(file)
        spec = content["spec"]
        for m in content["metrics"]:
            row = (spec["name"], str(spec["version"]), m["name"], m["value"], m["n"], m["stderr"], content["code"])
            found.append(ScoreRow(*row))
    return found


def text(facts: Facts) -> str:
    """The whole card."""
    sections = [_head(facts), _what(facts), _load(facts), _scores(facts), _training(facts), _data(facts), _made(facts)]
    return "\n\n".join(sections) + "\n"


def _head(facts: Facts) -> str:
    run = facts.run
    kind = "lora" if facts.adapter else "full-fine-tuning"
    lines = [f"library_name: {'peft' if facts.adapter else 'transformers'}", "pipeline_tag: text-generation"]
    if facts.base is not None:
        lines += [f"base_model: {_quoted(facts.base)}"]
        lines += [f"base_model_relation: {'adapter' if facts.adapter else 'finetune'}"]
    if facts.datasets:
        lines += ["datasets:", *(f"- {_quoted(name)}" for name in facts.datasets)]
    lines += ["tags:", *(f"- {_quoted(tag)}" for tag in (TAG, kind, run["study"]))]
    lines += [_NO_LICENSE if facts.license_id is None else f"license: {_quoted(facts.license_id)}"]
    return "\n".join(["---", *lines, "---"])


def _what(facts: Facts) -> str:
    run, manifest = facts.run, facts.manifest
    method = (
        "Full fine-tuning" if run["method"]["kind"] == "Full" else f"A LoRA adapter of rank {run['method']['rank']}"
    )
    base = _code(run["model"]) if facts.base is None else f"[{facts.base}](https://huggingface.co/{facts.base})"
    text = (
        f"# {facts.to.split('/')[1]}\n\n"
        f"{method} of {base}, step {facts.meta['step']:,} of {manifest['steps']:,} of the run "
        f"{_code(manifest['name'])} at scale {_code(run['scale'])}, from an open replication of {PAPER}. "
        f"Weights in {facts.dtype}."
    )
    if facts.base is None:
        where = "that folder of the code's repository" if "/" in run["model"] else "a folder of that name, on no hub"
        text += f"\n\nThe base is {where}; digest of its files: {_code(manifest.get('model_digest', 'not recorded'))}."
    if manifest["dirty"]:
        text += "\n\n**The code that trained this differed from the commit named below: it does not tell all of it.**"
    return text


def _load(facts: Facts) -> str:
    at = "" if facts.branch is None else f", revision={_quoted(facts.branch)}"
    name = f"{_quoted(facts.to)}{at}"
    if facts.adapter:
        base = _quoted(facts.base or facts.run["model"])
        lines = [
            "from peft import PeftModel; from transformers import AutoModelForCausalLM",
            f"model = AutoModelForCausalLM.from_pretrained({base})",
            f"model = PeftModel.from_pretrained(model, {name})",
        ]
    else:
        lines = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f"model = AutoModelForCausalLM.from_pretrained({name})",
            f"tokenizer = AutoTokenizer.from_pretrained({name})",
        ]
    return "## Load\n\n```python\n" + "\n".join(lines) + "\n```"


def _scores(facts: Facts) -> str:
    if not facts.scores:
        return "## Scores\n\nThis checkpoint has not been scored."
    before = {(row.eval, row.version, row.metric): row.value for row in facts.base_scores}
    rows = [
        (f"{r.eval}@{r.version}", r.metric, _number(r.value), _number(r.stderr), str(r.n), r.code,
         _number(before.get((r.eval, r.version, r.metric))))
        for r in facts.scores
    ]  # fmt: skip
    heads = ("eval@version", "metric", "value", "stderr", "n", "scored by commit", "base")
    return "## Scores\n\n" + _table(heads, rows)


def _training(facts: Facts) -> str:
    rows = [(key, _code(value)) for key, value in _flat(facts.run)]
    return "## Every hyperparameter\n\n" + _table(("field", "value"), rows)


def _data(facts: Facts) -> str:
    manifest, meta = facts.manifest, facts.meta
    rows = [
        ("source", ", ".join(_code(where) for where in _of_kind_source(facts.run["task"]))),
        ("digest of the tokens", _code(manifest.get("data_digest", "not recorded"))),
        ("sequences in an epoch", f"{manifest['sequences']:,}"),
        ("tokens trained on, padding included", f"{meta['tokens']:,}"),
        ("of these not padding", f"{meta['real_tokens']:,}"),
        ("of these with a loss", f"{meta['supervised_tokens']:,}"),
        ("last training loss, nats", f"{meta['loss']:.4f}"),
    ]
    return "## Data\n\n" + _table(("", ""), rows)


def _made(facts: Facts) -> str:
    manifest = facts.manifest
    hardware = manifest["hardware"]
    machine = f"{hardware['cpu']}, {hardware['threads']} threads" + "".join(f", {gpu}" for gpu in hardware["gpus"])
    rows = [
        ("commit", _code(manifest["git_sha"])),
        ("code", _code(manifest["code"]) + (" (not all of it committed)" if manifest["dirty"] else "")),
        ("digest of the run", _code(manifest["digest"])),
        ("trained parameters", f"{manifest['trainable']:,}"),
        ("seconds of training to this step", f"{facts.meta['seconds']:,.1f}"),
        ("started", manifest["started"]),
        ("hardware", machine),
        ("packages", ", ".join(f"{name} {version}" for name, version in manifest["packages"].items())),
    ]
    again = (
        "No study of the scale names this run; `manifest.json` has its whole configuration."
        if facts.command is None
        else f"To train it again, at that commit:\n\n```\n{facts.command}\n```"
    )
    return "## What made it\n\n" + _table(("", ""), rows) + "\n\n" + again


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of an encoded run as a dotted name and its value; a kind is the value of its parent."""
    for key, item in value.items():
        if key == "kind":
            if prefix:
                yield prefix.rstrip("."), item
        elif isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _of_kind_source(task: dict[str, Any]) -> list[str]:
    source = task["source"]
    return [source["where"]] + [f"{k}={source[k]}" for k in ("name", "split", "revision") if source.get(k)]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    # A bar would end the cell, in code too.
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _code(value: Any) -> str:
    """Inline code; a value with line breaks or backticks as JSON, so that it stays on its line."""
    shown = value if isinstance(value, str) and value and "\n" not in value else json.dumps(value, ensure_ascii=False)
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _quoted(value: str) -> str:
    return json.dumps(value)
