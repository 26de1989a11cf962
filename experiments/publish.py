"""A run's weights as others load them: a folder in the hub's layout, with a model card, pushed or only written.

    runs/<scale>/<run>/checkpoints/step_000193  +  manifest.json  +  scores
        -> folder/  adapter_model.safetensors, adapter_config.json       an adapter, as PEFT reads it
                    model-0000x-of-0000y.safetensors, config.json, ...   a whole model with its tokenizer
                    README.md       the card (card.py)
                    manifest.json   what made the weights, without the paths of the machine that did

Checkpoints hold fp32; bf16 is one cast from there. In bf16 a full fine-tuning's small changes are rounded (spacing
2^-8 of a weight), so what is to be measured as a difference to the base is published in fp32, which is the default.
Safetensors only: a pickle runs code when it is loaded.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from experiments import card, studies
from replication.config import CPT, IFT, Full, LoRA
from replication.runs import RunDir, atomic_folder, find_runs, is_adapter, read_json, write_json
from replication.scale import Scale

HELP = "write a model card and push a run's weights to the hub"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHARD = "5GB"
# An earlier push may have had other shards; whatever else lies in the repository is left alone.
_REPLACED = ["*.safetensors", "*.safetensors.index.json"]
_LOCAL_TOKENIZER_KEYS = ("is_local", "local_files_only", "name_or_path")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="RUN", help="name of a complete run, as `status` prints it")
    parser.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository on the hub; made where absent")
    parser.add_argument("--step", type=int, help="checkpoint to publish (default: the last)")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="cast once to this (default: as stored, fp32)")
    parser.add_argument("--base", metavar="OWNER/NAME", help="hub id of the base, where the run knows it as a folder")
    parser.add_argument("--license", metavar="ID", help="for the card, as llama2 or apache-2.0 (default: left open)")
    parser.add_argument("--branch", help="branch of the repository, for checkpoints beside the last (default: main)")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--dry-run", nargs="?", const=True, type=Path, metavar="FOLDER", help="write the folder (default: in the "
        "run's) and push nothing",
    )  # fmt: skip
    parser.add_argument("--allow-dirty", action="store_true", help="also a run of code that was not committed")


@dataclass(frozen=True)
class Item:
    """What is published: a checkpoint of a run, where to, on which base by which name."""

    folder: RunDir
    step: int
    to: str
    base: str
    branch: str | None = None

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's folder."""
        return self.folder.checkpoint(self.step)


def run(options: argparse.Namespace, scale: Scale) -> int:
    """Exit status of the command."""
    if not _HUB_ID.fullmatch(options.to):
        raise ValueError(f"--to {options.to!r} is not of the form OWNER/NAME")
    item = find(options, scale)
    if options.dry_run is None:
        _require_login()
    into = _destination(options.dry_run, item)
    command = reproduce(item.folder, scale, options.scale)
    write(item, into, dtype=options.dtype, license_id=options.license, command=command)
    if options.dry_run is not None:
        print(f"written, not pushed: {into}")
        return 0
    print(push(item, into, private=options.private))
    shutil.rmtree(into)
    return 0


# ---------------------------------------------------------------- what


def find(options: argparse.Namespace, scale: Scale) -> Item:
    """The checkpoint that the options name.

    Raises:
        ValueError: no such run or step, not complete, dirty, or an adapter whose base nobody else can find.
    """
    folder = _complete(options.run, options.runs, scale)
    steps = [int(p.name.removeprefix("step_")) for p in folder.checkpoints() if any(p.glob("*.safetensors"))]
    if not steps:
        raise FileNotFoundError(f"{folder.path} has no checkpoint with weights; restore it, or train the run again")
    step = steps[-1] if options.step is None else options.step
    if step not in steps:
        raise ValueError(f"--step {step}: {options.run} has checkpoints at {', '.join(map(str, steps))}")
    item = Item(folder, step, options.to, base_of(folder, options.base), options.branch)
    if not isinstance(folder.run.method, (Full, LoRA)) or not isinstance(folder.run.task, (CPT, IFT)):
        raise ValueError(f"{options.run}: what is published is language models, tuned whole or by LoRA")
    if not options.allow_dirty:
        _refuse_dirty(item)
    if is_adapter(item.checkpoint) and item.base.startswith(("/", "~", "..")):
        raise ValueError(
            f"the base of this adapter is {item.base}, a folder of this machine: an adapter without its base is of no "
            "use to others; publish the base too and name it with --base OWNER/NAME"
        )
    return item


def base_of(folder: RunDir, base: str | None) -> str:
    """The name of a run's base for others: as given, else the run's own.

    Raises:
        ValueError: `base` is no hub id.
    """
    if base is not None and not _HUB_ID.fullmatch(base):
        raise ValueError(f"--base {base!r} is not of the form OWNER/NAME")
    return base or folder.run.model


def is_hub_id(name: str) -> bool:
    """Whether a name is one of the hub's, and no folder of this machine."""
    from replication.provenance import resolve

    return bool(_HUB_ID.fullmatch(name)) and resolve(name) is None


def reproduce(folder: RunDir, scale: Scale, given: str) -> str | None:
    """The command that trains this run; None for one that no study of the scale names (made with --set, say)."""
    known = folder.run
    # A run is in its setting's study and in the main one: the narrower first.
    for study in sorted(studies.names(scale), key=lambda name: name != known.study):
        if any(run.name() == known.name() for run in studies.runs(study, scale, seeds=known.seed + 1)):
            where = Path(given).name if given.endswith(".py") else given
            seeds = f" --seeds {known.seed + 1}" if known.seed else ""
            return f"python -m experiments run {study} --scale {where}{seeds} --only {known.name()}"
    return None


def _complete(name: str, root: Path, scale: Scale) -> RunDir:
    found = {str(f.manifest["name"]): f for f in find_runs(root, scale=scale.name) if "run" in f.manifest}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3, cutoff=0.4) or sorted(found)[:3]
        raise ValueError(
            f"no run {name!r} under {root / scale.name}; "
            + (f"did you mean {' or '.join(near)}?" if near else "nothing is trained there yet")
        )
    if found[name].status != "complete":
        raise ValueError(f"{name} is {found[name].status}, not complete; finish it with `python -m experiments run`")
    return found[name]


def _refuse_dirty(item: Item) -> None:
    labels = [str(item.folder.manifest["code"]), *(row.code for row in card.scores(item.folder, item.step))]
    if item.folder.manifest["dirty"] or any("+dirty" in label for label in labels):
        raise ValueError(
            f"{item.folder.path.name} or a score of it was made by code that is not committed, so that nobody could "
            "make it again; commit and run it anew, or pass --allow-dirty (the card will say so)"
        )


# ---------------------------------------------------------------- the folder


def write(
    item: Item, into: Path, *, dtype: str | None = None, license_id: str | None = None, command: str | None = None
) -> None:
    """Write weights, card and manifest into a folder, which appears whole or not at all."""
    adapter = is_adapter(item.checkpoint)
    with atomic_folder(into) as folder:
        kept = _adapter(item, folder, dtype) if adapter else _whole(item, folder, dtype)
        manifest = without_paths(item.folder.manifest) | {"base": without_paths(item.base)}
        write_json(folder / "manifest.json", manifest)
        facts = card.Facts(
            manifest=manifest,
            meta=read_json(item.checkpoint / "meta.json"),
            scores=card.scores(item.folder, item.step),
            base_scores=card.scores(RunDir(_scale_folder(item.folder) / "base"), 0),
            base=item.base if is_hub_id(item.base) else None,
            datasets=[where for where in _sources(manifest["run"]) if is_hub_id(where)],
            adapter=adapter,
            to=item.to,
            branch=item.branch,
            dtype=kept,
            license_id=license_id,
            command=command,
        )
        (folder / "README.md").write_text(card.text(facts))


def without_paths(value: Any) -> Any:
    """A manifest for others: an absolute path, or one out of the working directory, becomes its last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~", "../")) and not re.search(r"\s", value):
        return PurePosixPath(value).name
    return value


def _adapter(item: Item, folder: Path, dtype: str | None) -> str:
    """PEFT's two files. Its configuration names the folder that the base was loaded from; others need its id."""
    from safetensors.torch import load_file, save_file

    config = read_json(item.checkpoint / "adapter_config.json")
    config["base_model_name_or_path"] = item.base
    tensors = load_file(item.checkpoint / "adapter_model.safetensors")
    target = _torch_dtype(dtype, item.checkpoint)
    cast = {name: tensor.to(target).contiguous() for name, tensor in tensors.items()}
    save_file(cast, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(folder / "adapter_config.json", config)
    if item.folder.run.tokenizer is not None:
        _tokenizer(item, folder)
    return str(target).removeprefix("torch.")


def _whole(item: Item, folder: Path, dtype: str | None) -> str:
    """A transformers checkpoint in shards, with the tokenizer that the run was trained with."""
    from replication.models import load_model

    target = _torch_dtype(dtype, item.checkpoint)
    load_model(item.checkpoint, dtype=target).save_pretrained(folder, max_shard_size=_SHARD)
    _tokenizer(item, folder)
    return str(target).removeprefix("torch.")


def _tokenizer(item: Item, folder: Path) -> None:
    from replication.models import tokenizer_of

    tokenizer_of(item.folder.run).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, {k: v for k, v in read_json(path).items() if k not in _LOCAL_TOKENIZER_KEYS})


def _torch_dtype(asked: str | None, checkpoint: Path) -> Any:
    """The type to write: as asked, or as stored.

    Raises:
        ValueError: fp32 of weights that are stored in less.
    """
    import torch

    stored = _stored_dtype(checkpoint)
    if asked == "fp32" and stored != torch.float32:
        raise ValueError(f"--dtype fp32: {checkpoint} holds {stored}; what was rounded away does not come back")
    return {"bf16": torch.bfloat16, "fp32": torch.float32, None: stored}[asked]


def _stored_dtype(checkpoint: Path) -> Any:
    from safetensors import safe_open

    with safe_open(min(checkpoint.glob("*.safetensors")), framework="pt") as content:
        return content.get_tensor(min(content.keys())).dtype


def _sources(value: Any) -> Iterator[str]:
    """Where the data of an encoded run come from."""
    if isinstance(value, dict):
        if value.get("kind") == "Source":
            yield value["where"]
        for item in value.values():
            yield from _sources(item)


def _scale_folder(folder: RunDir) -> Path:
    return folder.path.parent.parent


def _destination(asked: Path | bool | None, item: Item) -> Path:
    """Where the folder is written: a new one as asked, or the run's own, which a later call replaces."""
    if not isinstance(asked, Path):
        return item.folder.path / "publish" / item.checkpoint.name
    if asked.exists() and (not asked.is_dir() or any(asked.iterdir())):
        raise ValueError(f"--dry-run {asked}: there are files already; name a new folder")
    return asked


# ---------------------------------------------------------------- the hub


def push(item: Item, folder: Path, *, private: bool) -> str:
    """Make the repository (and branch) where absent and upload the folder; returns where it is.

    Raises:
        RuntimeError: the hub does not answer, or not to this user; the folder is kept.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    try:
        huggingface_hub.create_repo(item.to, private=private or None, exist_ok=True)
        if item.branch is not None:
            huggingface_hub.create_branch(item.to, branch=item.branch, exist_ok=True)
        done = huggingface_hub.upload_folder(
            repo_id=item.to,
            folder_path=folder,
            revision=item.branch,
            commit_message=f"{item.folder.run.name()} at step {item.step}",
            delete_patterns=_REPLACED,
        )
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        at = "" if item.branch is None else f" --revision {item.branch}"
        raise RuntimeError(
            f"the hub did not take {item.to} ({reason}); check the network and `hf auth login` (a token that may "
            f"write there). The folder is kept, to push by hand: hf upload {item.to} {folder}{at}"
        ) from error
    return str(getattr(done, "commit_url", done))


def _require_login() -> None:
    """Before gigabytes are written.

    Raises:
        RuntimeError: no token on this machine, or the hub is switched off.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise RuntimeError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it, or use --dry-run")
    if huggingface_hub.get_token() is None:
        raise RuntimeError("not logged in to the hub; run `hf auth login` with a token that may write, or --dry-run")
