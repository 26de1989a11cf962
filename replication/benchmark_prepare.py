"""Preparation of data against the bare tokenizer: how much of its speed is left, and memory by size of input.

The bare tokenizer gets the same documents as a list in memory and gives them back as token ids; ours reads them from a
file, cuts, checks, tokenises, writes and seals. Both have one thread and a process of their own, in turns; loading of
libraries, tokenizer and (for the bare one) documents is not timed. Input is made of the given texts, over and over,
each document with a number in front of it.

    python -m replication.benchmark_prepare --texts FILE... --tokenizer FILE [--megabytes 10 300] [--turns 3]

FILE of texts is a text file or .jsonl[.gz] with "text"; of the tokenizer, a tokenizer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from replication.config import Source
from replication.data import sources

END = "<|endoftext|>"
CALL = 256  # documents a call of the bare tokenizer
LONGEST = 20_000  # characters of a document; longer texts are cut into several


def prepare_speed(texts: Sequence[Path], tokenizer: Path, *, megabytes: Sequence[int], turns: int) -> dict[str, Any]:
    """Tokens per second of both sides on the smallest input and their ratio; peak memory of ours on every input."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = {size: Path(folder) / f"{size}.jsonl" for size in sorted(megabytes)}
        for size, path in inputs.items():
            write_input(texts, path, size * 10**6)
        smallest = inputs[min(inputs)]
        pairs = [
            (in_process("bare", smallest, tokenizer), in_process("ours", smallest, tokenizer)) for _ in range(turns)
        ]
        larger = {size: in_process("ours", path, tokenizer) for size, path in inputs.items() if path != smallest}
    return {
        "tokens": pairs[0][0]["tokens"],
        "tokens_per_second": {
            "bare": [bare["tokens"] / bare["seconds"] for bare, _ in pairs],
            "ours": [ours["tokens"] / ours["seconds"] for _, ours in pairs],
        },
        "share_of_bare_cpu": statistics.median(bare["cpu_seconds"] / ours["cpu_seconds"] for bare, ours in pairs),
        "share_of_bare": statistics.median(bare["seconds"] / ours["seconds"] for bare, ours in pairs),
        "peak_mib": {str(min(inputs)): max(ours["peak_mib"] for _, ours in pairs)}
        | {str(size): found["peak_mib"] for size, found in larger.items()},
        "larger": {str(size): found for size, found in larger.items()},
        "turns": turns,
    }


def write_input(texts: Sequence[Path], path: Path, size: int) -> None:
    """At least `size` bytes of JSON lines from the texts, over and over, no document twice."""
    with path.open("w") as file:
        for turn in count():
            for i, text in enumerate(_pieces(texts)):
                file.write(json.dumps({"text": f"{turn} {i}\n{text}"}) + "\n")
                if file.tell() >= size:
                    return


def in_process(side: str, path: Path, tokenizer: Path) -> dict[str, float]:
    """Tokens, seconds and peak memory of one side, from a fresh process with one thread."""
    command = [sys.executable, "-m", "replication.benchmark_prepare", "--side", side]
    command += ["--texts", str(path), "--tokenizer", str(tokenizer)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}; its errors are above")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _pieces(texts: Sequence[Path]) -> Iterator[str]:
    for path in texts:
        for row in sources.documents(Source(str(path))):
            for start in range(0, len(row["text"]), LONGEST):
                yield row["text"][start : start + LONGEST]


# ---------------------------------------------------------------- one side, in its own process


def _bare(path: Path, tokenizer: Any) -> Callable[[], int]:
    with path.open() as lines:
        documents = [json.loads(line)["text"] for line in lines]
    core = tokenizer.backend_tokenizer

    def run() -> int:
        tokens = len(documents)  # end-of-text
        for start in range(0, len(documents), CALL):
            tokens += sum(len(found.ids) for found in core.encode_batch_fast(documents[start : start + CALL]))
        return tokens

    return run


def _ours(path: Path, tokenizer: Any) -> Callable[[], int]:
    import datasets  # noqa: F401  (its import is not timed)

    from replication.data import tokens

    folder = Path(tempfile.mkdtemp(dir=path.parent))
    return lambda: tokens.prepare_text(Source(str(path)), tokenizer, folder).n_tokens


def _one_side(side: str, path: Path, tokenizer: Path) -> dict[str, float]:
    from transformers import PreTrainedTokenizerFast

    loaded = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token=END)
    work = {"bare": _bare, "ours": _ours}[side](path, loaded)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "tokens": found,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mib": round(peak),
        "before_mib": round(before),
    }


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 300])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", choices=("bare", "ours"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(_one_side(given.side, given.texts[0], given.tokenizer)))
        return
    print(json.dumps(prepare_speed(given.texts, given.tokenizer, megabytes=given.megabytes, turns=given.turns)))


if __name__ == "__main__":
    main()
