"""The order of training data: by the seed alone, each sequence once an epoch, whoever reads it."""

import time
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from replication.config import CPT, IFT, Budget, Cosine, Full, LionW, Run, Source, Trapezoid
from replication.tasks import cpt, ift
from replication.tasks.stream import Stream


def numbered(size: int, seed: int = 7) -> Stream:
    """A stream whose sequence i holds nothing but i."""

    def sequence(i: int) -> dict[str, np.ndarray]:
        return {"input_ids": np.full(4, i), "labels": np.full(4, i)}

    return Stream(size, sequence, np.full(size, 4), seed, "digest")


def seen(stream: Stream, *, steps: int, batch: int, micro: int, world: int) -> list[list[int]]:
    """Sequences that each rank reads, in order."""
    return [
        [
            int(row[0])
            for step in range(steps)
            for tensors in stream.micro_batches(step, batch=batch, micro=micro, rank=rank, world=world)
            for row in tensors["input_ids"]
        ]
        for rank in range(world)
    ]


@pytest.mark.parametrize(("world", "micro"), [(1, 4), (2, 2), (2, 4), (4, 2), (8, 1)])
def test_ranks_see_every_sequence_once_an_epoch(world: int, micro: int) -> None:
    for epoch in range(2):
        stream = numbered(40)
        by_rank = seen(stream, steps=5 * (epoch + 1), batch=8, micro=micro, world=world)
        per_epoch = [ranks[len(ranks) * epoch // (epoch + 1) :] for ranks in by_rank]
        assert sorted(sum(per_epoch, [])) == list(range(40))
        assert len({len(ranks) for ranks in per_epoch}) == 1


def test_a_batch_is_the_same_set_for_any_number_of_ranks() -> None:
    stream = numbered(30)
    for step in range(12):  # batches of 8 reach over the ends of epochs of 30
        batches = [
            sorted(
                int(row[0])
                for rank in range(world)
                for tensors in stream.micro_batches(step, batch=8, micro=1, rank=rank, world=world)
                for row in tensors["input_ids"]
            )
            for world in (1, 2, 4, 8)
        ]
        assert batches.count(batches[0]) == 4


def test_the_order_follows_the_seed_and_the_epoch() -> None:
    first = numbered(50).indices(0, 50)
    assert first == numbered(50).indices(0, 50)
    assert first != numbered(50, seed=8).indices(0, 50)
    assert first != numbered(50).indices(1, 50)
    assert first != list(range(50))


def test_an_epoch_of_the_papers_size_starts_in_a_moment() -> None:
    """20e9 tokens are 4,882,812 sequences of 4096."""
    stream = numbered(4_882_812, seed=int(time.time()))
    began = time.perf_counter()
    assert len(set(stream.indices(20_000, 192))) == 192
    assert time.perf_counter() - began < 5


def run(task: CPT | IFT, *, seq_len: int) -> Run:
    budget, schedule = (
        (Budget(1, "epochs"), Cosine()) if isinstance(task, IFT) else (Budget(1e3, "tokens"), Trapezoid(1))
    )
    return Run(
        "t", "t", task, "m", Full(), LionW(1e-3), schedule, budget, global_batch=4, seq_len=seq_len, micro_batch=2
    )


def test_two_ranks_read_a_real_corpus_once_an_epoch(
    shared_data: Path, neox: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    task = CPT(Source(str(shared_data / "corpora/tinystories_b/tinystories_b.txt")))
    # As on two ranks: each opens the data for itself.
    streams = [cpt.open_stream(task, run(task, seq_len=100), neox, cache=tmp_path) for _ in range(2)]
    steps, read = streams[0].size // 4, []
    for rank, stream in enumerate(streams):
        for step in range(steps):
            for tensors in stream.micro_batches(step, batch=4, micro=2, rank=rank, world=2):
                read += [row.tobytes() for row in tensors["input_ids"].numpy()]
    tokens = np.fromfile(next(tmp_path.glob("*/tokens.bin")), dtype=np.uint16).astype(np.int64)
    blocks = [tokens[i * 100 : (i + 1) * 100].tobytes() for i in range(streams[0].size)]
    assert steps > 100
    assert len(read) == 4 * steps
    # What does not fill the last batch comes at the start of the next epoch.
    assert len(set(read) & set(blocks)) == len(set(read)) >= len(set(blocks)) - 3


def test_instructions_share_sequences_as_the_task_says(
    shared_data: Path, neox: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    columns = (("prompt", "question"), ("response", "answer"))
    source = Source(str(shared_data / "benchmarks/gsm8k/train.jsonl"), columns=columns, limit=90)
    sizes = {}
    for most in (None, 1, 3):
        task = IFT(source, "Question: {prompt}\nAnswer:", per_sequence=most)
        stream = ift.open_stream(task, run(task, seq_len=2048), neox, cache=tmp_path)
        sizes[most] = stream.size
        ends = [int((stream.sequence(i)["labels"] == neox.eos_token_id).sum()) for i in range(stream.size)]
        assert sum(ends) == 90
        assert most is None or max(ends) <= most
    assert sizes[1] == 90
    assert sizes[3] == 30
    assert sizes[None] is not None and sizes[None] < 15
    assert len(list(tmp_path.glob("*/meta.json"))) == 1
