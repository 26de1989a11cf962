"""The checkpoints that the paper's authors released, as data, and where a branch of one lies on this machine.

    Published --branches--> "main", ... --locate--> folder --> replication.methods.merge.load_merged(base, folder)

Sixteen repositories of one organisation on the Hugging Face hub, and a rank of 2048 that the paper does not list;
intermediate checkpoints are git branches. What the branches are called is not documented, so a length is read from a
name only by the patterns of `length_of`; a branch that fits none has no number of the paper beside it.

`where` of a repository is its hub id or a local folder, laid out in one of three ways:

    <folder>/config.json, model.safetensors, ...                     branch "main"
    <folder>/<branch>/config.json, ...                               downloads by hand, git worktrees
    <folder>/refs/<branch>, <folder>/snapshots/<commit>/...          the hub's cache (models--ORG--NAME)

Only safetensors are read: a pickle runs code when it is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from experiments import paper
from experiments.paper import Setting

ORGANISATION = "LoRA-TMLR-2024"
# Gated: the hub asks for a login and the accepted licence. Third parties use the copy NousResearch/Llama-2-7b-hf.
BASE = "meta-llama/Llama-2-7b-hf"
FILES = ("*.safetensors", "*.json", "tokenizer.model")
_COPY = "or point `where` to a local copy"


@dataclass(frozen=True)
class Published:
    """One released repository: its hub id or local folder, and what was trained on which base.

    `method` is "full" or a rank as in "r16"; the adapters are on all linear layers, with alpha of 2 x rank.
    """

    name: str
    where: str
    setting: Setting
    method: str
    kind: Literal["adapter", "full"]
    base: str = BASE
    in_paper: bool = True


def _adapter(name: str, setting: Setting, rank: int, *, in_paper: bool = True) -> Published:
    return Published(name, f"{ORGANISATION}/{name}", setting, f"r{rank}", "adapter", in_paper=in_paper)


def _full(name: str, setting: Setting) -> Published:
    return Published(name, f"{ORGANISATION}/{name}", setting, "full", "full")


PUBLISHED: tuple[Published, ...] = (
    _adapter("starcoder-lora-rank-16-20B-tokens", "cpt_code", 16),
    _adapter("starcoder-lora-rank-64-20B-tokens", "cpt_code", 64),
    _adapter("starcoder-lora-rank-256-20B-tokens", "cpt_code", 256),
    # "token" without s in this one repository, as the hub has it.
    _full("starcoder-full-finetuning-lr-1e-05-20B-token", "cpt_code"),
    _adapter("openwebmath-lora-rank-16-20B-tokens", "cpt_math", 16),
    _adapter("openwebmath-lora-rank-64-20B-tokens", "cpt_math", 64),
    _adapter("openwebmath-lora-rank-256-20B-tokens", "cpt_math", 256),
    _full("openwebmath-full-finetuning-lr-1e-05-20B-tokens", "cpt_math"),
    _adapter("magicoder-lora-rank-16-alpha-32", "ift_code", 16),
    _adapter("magicoder-lora-rank-64-alpha-128", "ift_code", 64),
    _adapter("magicoder-lora-rank-256-alpha-512", "ift_code", 256),
    _adapter("magicoder-lora-rank-2048-alpha-4096", "ift_code", 2048, in_paper=False),
    _full("magicoder-full-finetuning-lr-5e-05", "ift_code"),
    _adapter("metamath-lora-rank-16-alpha-32", "ift_math", 16),
    _adapter("metamath-lora-rank-64-alpha-128", "ift_math", 64),
    _adapter("metamath-lora-rank-256-alpha-512", "ift_math", 256),
    _full("metamath-full-finetuning-lr-1e-05", "ift_math"),
)


def named(name: str) -> Published:
    """The released repository of that name, with or without the organisation before it."""
    for item in PUBLISHED:
        if name in (item.name, f"{ORGANISATION}/{item.name}"):
            return item
    raise ValueError(f"no published checkpoint {name!r}; there are {', '.join(item.name for item in PUBLISHED)}")


def copies(folder: Path, *, base: str = BASE) -> tuple[Published, ...]:
    """The released repositories that lie under a local folder, as `<name>/` or as the hub's cache names them."""
    found = []
    for item in PUBLISHED:
        for lies in (folder / item.name, folder / _cache_name(f"{ORGANISATION}/{item.name}")):
            if lies.is_dir():
                found.append(replace(item, where=str(lies), base=base))
                break
    if not found:
        there = _listed(p.name for p in folder.iterdir()) if folder.is_dir() else "no folder"
        raise FileNotFoundError(f"{folder} holds no published checkpoint, such as {PUBLISHED[0].name}/; there: {there}")
    return tuple(found)


# ---------------------------------------------------------------- which length a branch is

_EDGE, _END, _NUMBER = r"(?<![a-z0-9.])", r"(?![a-z0-9])", r"(\d*\.?\d+)"
# 0.25B-tokens, 250M-tok; tokens-4B, tok4b; and 4B as the whole name. Not 7b elsewhere, which may be the model's size.
_TOKENS = (
    rf"{_EDGE}{_NUMBER}([bm])[-_]?tok(?:en)?s?{_END}",
    rf"{_EDGE}tok(?:en)?s?[-_=]?{_NUMBER}([bm]){_END}",
    rf"^{_NUMBER}([bm])$",
)
# ep4, epoch-4; 4ep, 4-epochs, and 4-epoch at the end of the name ("rank-16-epoch-4" is not 16).
_EPOCHS = (
    rf"{_EDGE}ep(?:och)?[-_=]?(\d+){_END}",
    rf"{_EDGE}(\d+)ep{_END}",
    rf"{_EDGE}(\d+)[-_]?epoch(?:s{_END}|$)",
)
# ba772, 772ba (Composer's unit), step-772. Not batch-192, which may be the batch's size.
_BATCHES = (rf"{_EDGE}(?:ba|steps?)[-_=]?(\d+){_END}", rf"{_EDGE}(\d+)ba{_END}")
_SIZES = {"b": 1e9, "m": 1e6}


def length_of(branch: str, setting: Setting) -> float | None:
    """The training length that a branch's name states, in tokens (CPT) or epochs (IFT); None where it states none.

    Batches count as the nearest length of the paper's within 1 %. "main" is 20B tokens for CPT: an inference, from
    the repository's name, that its last checkpoint is there; for IFT it is not known. A name that states two
    different lengths states none.
    """
    name, cpt = branch.lower(), paper.UNITS[setting] == "tokens"
    if branch == "main":
        return 20e9 if cpt else None
    batch = paper.CPT_TOKENS_PER_BATCH if cpt else 1 / paper.IFT_BATCHES_PER_EPOCH[setting]
    stated = [_nearest(int(count) * batch, setting) for p in _BATCHES for count in re.findall(p, name)]
    if cpt:
        stated += [float(count) * _SIZES[size] for p in _TOKENS for count, size in re.findall(p, name)]
    else:
        stated += [float(count) for p in _EPOCHS for count in re.findall(p, name)]
    # "ep0" is Composer's name for a place within the first epoch.
    stated = sorted({length for length in stated if length > 0})
    return stated[0] if len(stated) == 1 else None


def how_known(branch: str, setting: Setting) -> str:
    """Why a branch is taken for its length, for the row that compares it with the paper."""
    if length_of(branch, setting) is None:
        return "which length this branch is, is not known"
    if branch == "main":
        return "inferred: the repository's name says 20B tokens, and main is taken for its end"
    return "read from the branch's name"


def _nearest(length: float, setting: Setting) -> float:
    near = min(paper.lengths(setting), key=lambda known: abs(known - length))
    return near if abs(near - length) <= 0.01 * near else length


# ---------------------------------------------------------------- where a branch lies


def branches(where: str) -> list[str]:
    """The branches of a local folder or of a hub repository, "main" first.

    With HF_HUB_OFFLINE set, a hub repository is what the hub's cache on this machine holds of it.

    Raises:
        FileNotFoundError: no such folder, or nothing in it is a checkpoint.
        RuntimeError: the hub does not answer, or not to this user.
    """
    folder = _local(where)
    names = list(_local_branches(folder)) if folder else _asked_of_hub(where)
    return sorted(names, key=lambda name: (name != "main", name))


def locate(published: Published, branch: str = "main") -> Path:
    """The local folder of a branch, downloaded first (safetensors, json, tokenizer) where it is on the hub.

    Raises:
        FileNotFoundError: no such branch or folder, or files that are missing or of the other kind.
        RuntimeError: the hub does not answer, or not to this user.
    """
    where, folder = published.where, _local(published.where)
    known = branches(where)
    if branch not in known:
        raise FileNotFoundError(f"{where} has no branch {branch!r}; it has {', '.join(known)}")
    found = _local_branches(folder)[branch] if folder else _download(where, branch)
    _check(found, published)
    return found


def commit(folder: Path) -> str | None:
    """The commit of a folder in the hub's cache, which its branch may leave later; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def _cache_name(hub_id: str) -> str:
    return "models--" + hub_id.replace("/", "--")


def _local(where: str) -> Path | None:
    """The local folder of a repository; None for one that is to be asked of the hub."""
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder
    if where.startswith((".", "/", "~")) or where.count("/") != 1:
        raise FileNotFoundError(f"no checkpoints at {where!r}: neither a folder here nor a hub id (owner/name)")
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return None
    cached = Path(constants.HF_HUB_CACHE) / _cache_name(where)
    if not cached.is_dir():
        raise FileNotFoundError(
            f"the hub is switched off (HF_HUB_OFFLINE) and its cache {cached.parent} has no {where}; "
            f"download it where there is a network, {_COPY}"
        )
    return cached


def _local_branches(folder: Path) -> dict[str, Path]:
    """Branch to folder, in each of the three layouts."""
    if (folder / "snapshots").is_dir():
        return _cached_branches(folder)
    found = {}
    for config in sorted(folder.rglob("*config.json")):
        inside = config.parent.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if config.name in ("config.json", "adapter_config.json") and not hidden:
            found["main" if config.parent == folder else inside.as_posix()] = config.parent
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint: no config.json or adapter_config.json in it or in a folder below; "
            f"there: {_listed(p.name for p in folder.iterdir())}"
        )
    return found


def _cached_branches(folder: Path) -> dict[str, Path]:
    """The branches whose snapshot is in the cache; pull requests (refs/pr/1) are none."""
    refs = {p.relative_to(folder / "refs").as_posix(): p for p in (folder / "refs").rglob("*") if p.is_file()}
    lies = {name: folder / "snapshots" / p.read_text().strip() for name, p in refs.items()}
    found = {name: path for name, path in lies.items() if path.is_dir() and not name.startswith("refs/")}
    if not found:
        raise FileNotFoundError(f"{folder} holds no snapshot of a branch; refs there: {_listed(refs)}; download again")
    return found


def _asked_of_hub(where: str) -> list[str]:
    import huggingface_hub

    return [ref.name for ref in _answer(where, lambda: huggingface_hub.list_repo_refs(where)).branches]


def _download(where: str, branch: str) -> Path:
    import huggingface_hub

    # Before gigabytes are fetched; afterwards the pickles, which are not fetched, could not be named.
    names = _answer(where, lambda: huggingface_hub.list_repo_files(where, revision=branch))
    _only_safetensors(names, f"{where} at {branch}")
    patterns = list(FILES)
    return Path(
        _answer(where, lambda: huggingface_hub.snapshot_download(where, revision=branch, allow_patterns=patterns))
    )


def _answer(where: str, ask: Callable[[], Any]) -> Any:
    """What the hub answers; a refusal becomes one line that says what to do."""
    from huggingface_hub.errors import HTTPError

    try:
        return ask()
    except (HTTPError, OSError) as error:
        raise RuntimeError(_refused(where, error)) from error


def _refused(where: str, error: Exception) -> str:
    """One line: what the hub said of a repository, and what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    said = " ".join(str(error).split())
    if isinstance(error, GatedRepoError):
        return f"{where} is gated: accept its licence on its page, log in with `hf auth login`, {_COPY}"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub shows no {where} to this user: check the name, log in with `hf auth login`, {_COPY} ({said})"
    return f"the hub did not give {where}: try again, set HF_HUB_OFFLINE=1 if it is cached, {_COPY} ({said})"


def _check(folder: Path, published: Published) -> None:
    """Refuse a folder whose weights are pickles, of the other kind, or not all there."""
    there = [p.name for p in folder.iterdir() if p.is_file()]
    _only_safetensors(there, str(folder))
    if published.kind == "adapter":
        needed = {"adapter_config.json", "adapter_model.safetensors"}
    else:
        if "adapter_config.json" in there:
            raise FileNotFoundError(f"{folder} holds an adapter; {published.name} is a full model")
        needed = {"config.json", *_shards(folder)}
    if missing := sorted(needed - set(there)):
        raise FileNotFoundError(f"{folder} lacks {_listed(missing)} of {published.name}; there: {_listed(there)}")


def _shards(folder: Path) -> set[str]:
    """The weight files of a full model: those its index names, else the one file."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return {"model.safetensors"}
    return {index.name, *json.loads(index.read_text())["weight_map"].values()}


def _only_safetensors(names: Iterable[str], where: str) -> None:
    names = list(names)
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise FileNotFoundError(
            f"{where} has its weights only as pickles, which run code when loaded; convert them to safetensors; "
            f"there: {_listed(names)}"
        )


def _listed(names: Iterable[str]) -> str:
    """Names in a row, at most twelve of them."""
    names = sorted(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"
