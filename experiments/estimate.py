"""What training costs before it is started: arithmetic, GPU-hours, disk and money, each by a formula written here.

FLOPs of one trained token (N = weights it is multiplied with: all linears and the output layer, not the embedding; L
blocks of a heads of width d, s tokens a sequence; a multiply-add counts 2):

                 forward           backward                          recomputation
    full         2 N + 4 L a d s   4 N + 8 L a d s                   one forward more
    LoRA         + 2 n             2 N + 4 n + 8 L a d s             one forward more

n = the adapters' weights. LoRA spares the gradients of frozen weights, 2 N of 6 (Schulman et al. 2025: 2/3 of full).
The attention term is PaLM's (arXiv 2204.02311, appendix B), with no half off for the causal mask. GPU-hours are these
FLOPs, recomputation included, over utilisation x the card's peak: hours in the training loop, without scoring.

Disk: token shards at 2 bytes a token (4 above 65,536 ids), 8 bytes a document for where it starts and, for
instructions, 8 for where its response does; checkpoints in fp32, 4 bytes a trained weight; state to continue from, fp32
masters and moments: 8 bytes a trained weight with Lion, 12 with Adam.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from replication.config import IFT, AdamW, LoRA, Run, Task
from replication.scale import Setting
from replication.shapes import Shape, multiplied, parameters, trainable


@dataclass(frozen=True)
class Card:
    """A GPU: dense bf16 FLOP/s with fp32 sums, bytes of memory, and whose data sheet says so."""

    peak: float
    memory: float
    source: str


# Dense: where a data sheet states the rate with sparsity, half of it.
CARDS = {
    "h100": Card(989.4e12, 80e9, "NVIDIA H100 data sheet, SXM5 80 GB: 1,979 TFLOPS with sparsity"),
    "h200": Card(989.4e12, 141e9, "NVIDIA H200 data sheet, SXM 141 GB: 1,979 TFLOPS with sparsity"),
    "a100": Card(312e12, 80e9, "NVIDIA A100 data sheet, SXM4 80 GB: 312 TFLOPS"),
    "l40s": Card(362.05e12, 48e9, "NVIDIA L40S data sheet: 362.05 TFLOPS, 733 with sparsity"),
    "rtx4090": Card(165.2e12, 24e9, "NVIDIA Ada architecture white paper, RTX 4090: 165.2 TFLOPS, fp32 sums"),
}


@dataclass(frozen=True)
class Offer:
    """What is bought: GPUs of a card, the share of its peak that is reached, and the price of a GPU-hour."""

    gpu: str = "h100"
    gpus: int = 1
    utilisation: float = 0.4
    price: float = 2.5

    def __post_init__(self) -> None:
        if self.gpu not in CARDS:
            raise ValueError(f"--gpu {self.gpu!r}; expected one of {', '.join(CARDS)}")
        if self.gpus < 1:
            raise ValueError(f"--gpus {self.gpus}; expected 1 or more")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"--utilisation {self.utilisation}; expected a share of the peak in (0, 1]")
        if not self.price >= 0 or math.isinf(self.price):
            raise ValueError(f"--price {self.price}; expected the price of a GPU-hour, 0 or more")

    @property
    def card(self) -> Card:
        """The card's numbers."""
        return CARDS[self.gpu]

    def gpu_hours(self, flops: float) -> float:
        """Hours of one GPU for so many FLOPs."""
        return flops / (self.utilisation * self.card.peak) / 3600


@dataclass(frozen=True)
class Data:
    """What is known of a data set without reading it; None where nothing is."""

    documents: int | None
    tokens: float | None
    source: str


UNKNOWN = Data(None, None, "not known before `prepare`")


def data_of(task: Task, setting: Setting | None, *, cache: Path | None = None) -> Data:
    """Size of a task's data: shards that lie prepared under `cache`, else what the setting says."""
    found = _prepared(task, cache) if cache is not None and cache.is_dir() else None
    if found is not None:
        return found
    if setting is not None and setting.size is not None:
        return Data(setting.size.documents, setting.size.tokens, setting.size.source)
    return UNKNOWN


def sequences(task: Task, data: Data, *, seq_len: int) -> int | None:
    """Sequences of an epoch, None where the size of the data is not known.

    Instructions at `per_sequence` documents each; without that limit what best-fit packing needs at least, which is
    every sequence full. Text in blocks, the last one dropped.
    """
    if isinstance(task, IFT) and task.per_sequence is not None:
        return None if data.documents is None else math.ceil(data.documents / task.per_sequence)
    return best_fit(task, data, seq_len=seq_len)


def best_fit(task: Task, data: Data, *, seq_len: int) -> int | None:
    """Sequences of an epoch if all of them are full."""
    if data.tokens is None:
        return None
    return max(1, math.ceil(data.tokens / seq_len) if isinstance(task, IFT) else int(data.tokens // seq_len))


def flops_per_token(shape: Shape, run: Run) -> float:
    """FLOPs that training one token takes, recomputation included."""
    n, attention = multiplied(shape), 4 * shape.layers * shape.queries * run.seq_len
    adapters = trainable(shape, run.method) if isinstance(run.method, LoRA) else 0
    forward = 2 * (n + adapters) + attention
    backward = (2 * n if adapters else 4 * n) + 4 * adapters + 2 * attention
    return forward * (2 if run.speed.recompute else 1) + backward


def shard_bytes(task: Task, data: Data, shape: Shape) -> float | None:
    """Bytes of a task's token shards, None where the size of the data is not known."""
    if data.tokens is None or data.documents is None:
        return None
    return data.tokens * (2 if shape.vocab <= 1 << 16 else 4) + data.documents * (16 if isinstance(task, IFT) else 8)


def weights_bytes(shape: Shape, run: Run) -> int:
    """Bytes of one checkpoint."""
    return 4 * trainable(shape, run.method)


def state_bytes(shape: Shape, run: Run) -> int:
    """Bytes of the state that training continues from."""
    moments = 2 if isinstance(run.optim, AdamW) else 1
    return (2 * (moments + 1) if run.precision == "pure_bf16" else 4 * (moments + 1)) * trainable(shape, run.method)


def rungs(run: Run, *, sequences_per_epoch: int) -> tuple[int, int]:
    """How many checkpoints of a run keep weights, and how many state alone: a trunk's rungs, to branch from."""
    kept = {run.steps(amount, sequences_per_epoch=sequences_per_epoch) for amount in run.ladder}
    last = run.steps(run.budget.amount, sequences_per_epoch=sequences_per_epoch)
    return (1, len(kept)) if run.is_trunk else (len(kept | {last}), 0)


def size_in_billions(shape: Shape) -> int:
    """Parameters, rounded to whole billions: which of the paper's tables counts such a model."""
    return round(parameters(shape) / 1e9)


def _prepared(task: Task, cache: Path) -> Data | None:
    """Counts of the shards of a task's source; None unless exactly one data set of that kind lies there."""
    kind = isinstance(task, IFT)
    found = set()
    for file in sorted(cache.glob("*/meta.json")):
        meta = json.loads(file.read_text())
        counts = (meta.get("documents"), meta.get("tokens"))
        instructions = "prompt_lengths.npy" in meta.get("files", {})
        if meta.get("where") == task.source.where and instructions == kind and None not in counts:
            found.add((*counts, file.parent.name))
    if len(found) != 1:
        return None
    documents, tokens, digest = found.pop()
    return Data(documents, tokens, f"prepared as {digest}")
