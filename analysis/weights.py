"""Weight matrices of a checkpoint, read one at a time from safetensors files.

Only the 2-D linears of the layers (q, k, v, o, gate, up, down); embeddings and the output layer are not adapted by
LoRA and are left out for every arm. A checkpoint is a folder with a whole model (one file or shards with an index)
or with a PEFT adapter. Pickled weights are not read.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from replication.runs import is_adapter

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NAME = re.compile(rf"layers\.(\d+)\..*\b({'|'.join(MODULES)})(\.lora_[AB])?(?:\.default)?\.weight$")
Matrix = tuple[int, str]  # layer, module


@dataclass(frozen=True)
class Stored:
    """A tensor's place; nothing is read yet."""

    file: Path
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """Places of LoRA's factors and the factor alpha / r (alpha / sqrt(r) with rank stabilisation)."""

    a: dict[Matrix, Stored]
    b: dict[Matrix, Stored]
    rank: int
    scaling: float


def read(stored: Stored) -> torch.Tensor:
    """The tensor in its stored dtype.

    Raises:
        ValueError: NaN or infinite weights, of which nothing can be said.
    """
    with safe_open(stored.file, framework="pt") as content:
        tensor: torch.Tensor = content.get_tensor(stored.name)
    # A sum is finite where all are (and 30 times sooner asked), unless it overflows.
    if not tensor.sum(dtype=torch.float32).isfinite() and not torch.isfinite(tensor).all():
        raise ValueError(f"{stored.name} in {stored.file} has NaN or infinite weights; it cannot be analysed")
    return tensor


def folder(where: str) -> Path:
    """A local folder as given, relative to the repository root, or a model of the hub: from its cache, else downloaded.

    Raises:
        FileNotFoundError: none of these; offline, a model that is not in the cache.
    """
    for path in (Path(where), Path(__file__).parent.parent / where):
        if path.is_dir():
            return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # Shards, their index and the adapter's settings; no pickled weights, no other formats.
        return Path(snapshot_download(where, allow_patterns=["*.safetensors", "*.json"]))
    except HFValidationError:
        raise FileNotFoundError(f"{where!r} is no local folder and no name of a model on the hub") from None
    except LocalEntryNotFoundError:
        raise FileNotFoundError(
            f"{where!r} is no local folder and not in the hub's cache, and the hub cannot be reached from here; "
            f"download it where it can: hf download {where}"
        ) from None
    except HfHubHTTPError as error:
        raise FileNotFoundError(f"{where!r} is no local folder, and the hub refuses it: {error}") from None


def model(path: Path) -> dict[Matrix, Stored]:
    """The linears of a whole model by layer and module."""
    return {key: place for (key, part), place in _places(path).items() if part is None}


def adapter(path: Path) -> Adapter:
    """The factors of a LoRA adapter.

    Raises:
        ValueError: an adapter whose change is not scaling * B A with one rank.
    """
    config = json.loads((path / "adapter_config.json").read_text())
    other = [
        k for k in ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save") if config.get(k)
    ]
    if config.get("peft_type") != "LORA" or other:
        raise ValueError(f"{path} is not plain LoRA (peft_type {config.get('peft_type')}, set: {other})")
    places = _places(path)
    a = {key: place for (key, part), place in places.items() if part == ".lora_A"}
    b = {key: place for (key, part), place in places.items() if part == ".lora_B"}
    if not a or set(a) != set(b):
        raise ValueError(
            f"{path} holds {len(a)} lora_A and {len(b)} lora_B matrices of the layers; save the adapter again"
        )
    rank = config["r"]
    scaling = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Adapter(a, b, rank, scaling)


def check_pair(base: Path, tuned: Path) -> None:
    """Nothing where a checkpoint, whole or an adapter, fits its base.

    Raises:
        ValueError: the two have different matrices, or one has another shape.
    """
    places = model(base)
    if is_adapter(tuned):
        factors = adapter(tuned)
        if unknown := sorted(set(factors.a) - set(places)):
            raise ValueError(f"{tuned} adapts {len(unknown)} matrices that {base} lacks: {unknown[:3]} ...")
        inner = {m for m in factors.a if factors.a[m].shape[0] != factors.b[m].shape[1]}
        if inner:
            raise ValueError(f"{tuned}: lora_A and lora_B of {min(inner)} have different ranks")
        shapes: dict[Matrix, tuple[int, ...]] = {m: (factors.b[m].shape[0], factors.a[m].shape[1]) for m in factors.a}
    else:
        shapes = {matrix: place.shape for matrix, place in model(tuned).items()}
        if set(places) != set(shapes):
            raise ValueError(f"{base} and {tuned} differ in matrices: {sorted(set(places) ^ set(shapes))[:3]} ...")
    for matrix, shape in sorted(shapes.items()):
        if shape != places[matrix].shape:
            raise ValueError(f"{matrix} is {places[matrix].shape} in {base} and {shape} in {tuned}; name its own base")


def _places(path: Path) -> dict[tuple[Matrix, str | None], Stored]:
    """Every layer linear (or LoRA factor of one) in a folder's safetensors files."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {path}; a checkpoint is a folder with a model or a PEFT adapter")
    found: dict[tuple[Matrix, str | None], Stored] = {}
    for index in path.glob("*.safetensors.index.json"):
        wanted = set(json.loads(index.read_text())["weight_map"].values())
        if gone := sorted(wanted - {file.name for file in files}):
            raise FileNotFoundError(
                f"{path} lacks {len(gone)} of the {len(wanted)} shards in {index.name}: {gone[0]} ..."
            )
    for file in files:
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118
                if match := NAME.search(name):
                    found[(int(match[1]), match[2]), match[3]] = Stored(
                        file, name, tuple(content.get_slice(name).get_shape())
                    )
    if not found:
        raise ValueError(f"no layer matrices ({', '.join(MODULES)}) in {path}; other architectures are not known here")
    return found
