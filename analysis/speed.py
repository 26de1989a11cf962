"""How much faster the spectra are than a plain SVD of the same matrix, and whether they agree.

    python analysis/speed.py                  one matrix, and LoRA factors of its shape
    python analysis/speed.py --pair           Llama-2-7B's shapes from shards on disk, and a whole r = 16 adapter

A full SVD of every 7B checkpoint in the paper's figures would be hours on a GPU; this is what makes it minutes.

`--pair` writes a few layers of a bf16 pair to a temporary folder (.8 GB a layer), streams the change of each layer as
`spectra.py` does, and times `torch.linalg.svdvals` in fp32 on one changed matrix of each shape, in turns. A layer is 4
matrices of 4096 x 4096, 2 of 11008 x 4096 and one of 4096 x 11008; the model is 32 of them, 224 matrices. On a busy
machine clocks mislead, because two threads of one SVD wait for each other, and spin while they do: there, compare
processor time with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import save_file

from analysis import pair, singular, weights

LAYERS, RANK = 32, 16
WIDE, SQUARE, TALL = (4096, 11008), (4096, 4096), (11008, 4096)
SHAPES = {
    "self_attn.q_proj": SQUARE, "self_attn.k_proj": SQUARE, "self_attn.v_proj": SQUARE, "self_attn.o_proj": SQUARE,
    "mlp.gate_proj": TALL, "mlp.up_proj": TALL, "mlp.down_proj": WIDE,
}  # fmt: skip
T = TypeVar("T")
Clock = tuple[float, float]  # seconds by the clock, and of the processors


def spectra_speed(
    *, size: int = 4096, cols: int | None = None, rank: int = RANK, repeats: int = 3
) -> dict[str, float | int]:
    """Speed ratios against `torch.linalg.svdvals` in fp32 on a size x cols matrix, best of `repeats`, and agreement."""
    generator, cols = torch.Generator().manual_seed(0), cols or size
    b, a = (torch.randn(*shape, generator=generator) for shape in ((size, rank), (rank, cols)))
    dense = torch.randn(size, cols, generator=generator)
    product = b @ a
    plain_lora, expected = _best(lambda: torch.linalg.svdvals(product).numpy(), 1)
    lora, found = _best(lambda: singular.of_factors(b, a), repeats)
    plain, exact = _best(lambda: torch.linalg.svdvals(dense).numpy(), repeats)
    gram, values = _best(lambda: singular.of_dense(dense), repeats)
    return {
        "size": size,
        "cols": cols,
        "threads": torch.get_num_threads(),
        "rank": rank,
        "lora_ratio": plain_lora / lora,
        "lora_relative_error": float(np.abs(found / expected[:rank] - 1).max()),
        "dense_ratio": plain / gram,
        **_ranks("gram", values),
        **_ranks("svdvals", exact.astype(np.float64)),
        "seconds_svdvals": plain,
        "seconds_gram": gram,
        "seconds_factors": lora,
    }


def pair_speed(
    folder: Path, *, layers: int = 1, shapes: dict[str, tuple[int, int]] = SHAPES, model_layers: int = LAYERS
) -> dict[str, float | int]:
    """Streamed spectra of the change of a pair in `folder` against svdvals, layer by layer, for a whole model.

    One changed matrix of each shape and layer is given to svdvals, and counted as often as the layer has the shape.
    """
    generator = torch.Generator().manual_seed(0)
    base, tuned = (write_model(folder / name, layers, shapes, generator) for name in ("base", "tuned"))
    counts = {shape: list(shapes.values()).count(shape) for shape in shapes.values()}
    works, ours, plain, peak = pair.of_change(base, tuned), [], [], 0.0
    for layer in range(layers):
        own = [work for work in works if work.matrix[0] == layer]
        spent, found = _timed(lambda own=own: list(pair.stream(own, folder / "cache")))  # type: ignore[misc]
        ours.append(spent)
        peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        chosen = {spectrum.found.shape: work for spectrum, work in zip(found, own, strict=True)}
        clocks = {shape: _svdvals(work) for shape, work in chosen.items()}
        plain.append(tuple(sum(counts[s] * c[k] for s, c in clocks.items()) for k in range(2)))
    again, _ = _timed(lambda: list(pair.stream(works, folder / "cache")))
    (clock, processor), (plain_clock, plain_processor) = (np.median(side, axis=0) for side in (ours, plain))
    return {
        "matrices": len(shapes) * model_layers,
        "sample": layers * len(shapes),
        "svdvals_sample": layers * len(counts),
        "threads": torch.get_num_threads(),
        "ratio_clock": plain_clock / clock,
        "ratio_processor": plain_processor / processor,
        "minutes": clock * model_layers / 60,
        "minutes_svdvals": plain_clock * model_layers / 60,
        "seconds_again": again[0] / layers * model_layers,
        "peak_gb": peak,
    }


def adapter_speed(folder: Path, *, layers: int = LAYERS, shapes: dict[str, tuple[int, int]] = SHAPES) -> float:
    """Seconds for the spectra of a whole LoRA adapter in `folder`, read from disk and with nothing cached."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for layer in range(layers):
        for name, (out, into) in shapes.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(RANK, into, generator=generator)
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, RANK, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}))
    (clock, _), found = _timed(lambda: [pair.row(s, {}) for s in pair.stream(pair.of_factors(folder), None)])
    assert len(found) == layers * len(shapes)
    return clock


def write_model(folder: Path, layers: int, shapes: dict[str, tuple[int, int]], generator: torch.Generator) -> Path:
    """Random bf16 weights of standard deviation .02, one shard a layer."""
    folder.mkdir(parents=True)
    for layer in range(layers):
        tensors = {
            f"model.layers.{layer}.{name}.weight": (0.02 * torch.randn(shape, generator=generator)).bfloat16()
            for name, shape in shapes.items()
        }
        save_file(tensors, folder / f"model-{layer + 1:05d}-of-{layers:05d}.safetensors")
    return folder


def _svdvals(work: pair.Work) -> Clock:
    """What a user would write: the difference in fp32, and its singular values."""
    before, after = (weights.read(place) for place in work.places)
    return _timed(lambda: torch.linalg.svdvals(after.float() - before.float()))[0]


def _timed(call: Callable[[], T]) -> tuple[Clock, T]:
    start = time.perf_counter(), time.process_time()
    value = call()
    return (time.perf_counter() - start[0], time.process_time() - start[1]), value


def _ranks(by: str, values: np.ndarray) -> dict[str, int]:
    """Energy rank and unsquared rank at 90 %."""
    return {
        f"dense_rank90_{by}": singular.rank_at_share(values, 0.9),
        f"dense_rank90_unsquared_{by}": singular.rank_at_share(values, 0.9, power=1),
    }


def _best(call: Callable[[], np.ndarray], repeats: int) -> tuple[float, np.ndarray]:
    """Shortest wall time of a call, and its value."""
    runs = [_timed(call) for _ in range(repeats)]
    return min(clock for (clock, _), _ in runs), runs[-1][1]


def main() -> None:
    """Measure and print, one quantity a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pair", action="store_true", help="Llama-2-7B's shapes, streamed from disk")
    parser.add_argument("--layers", type=int, default=1, help="with --pair: layers of the sample, .8 GB of disk each")
    parser.add_argument("--size", type=int, default=4096, help="rows of the matrix")
    parser.add_argument("--cols", type=int, help="columns of the matrix (default: as many as rows)")
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.pair:
        with tempfile.TemporaryDirectory() as folder:
            measured = {"seconds_adapter": adapter_speed(Path(folder) / "adapter")}
            measured |= pair_speed(Path(folder) / "pair", layers=given.layers)
    else:
        measured = spectra_speed(size=given.size, cols=given.cols, rank=given.rank, repeats=given.repeats)
    for name, value in measured.items():
        print(f"{name:<28} {value:.4g}" if isinstance(value, float) else f"{name:<28} {value}")


if __name__ == "__main__":
    main()
