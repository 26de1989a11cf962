"""The store of answers: nothing asked twice, nothing mixed up, nothing lost to a kill."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from replication.evals.completions import Completion
from replication.evals.generate import Sampling, TransformersGenerator
from replication.evals.journal import Journal, open_folder

SAMPLED = Sampling(n=3, temperature=0.8, max_tokens=6, seed=5)


class Slow:
    """An engine that answers one question after the other, each with its own numbers."""

    tokenizer, context = None, 100

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.asked = pause, 0

    def identity(self) -> dict[str, str]:
        return {"engine": "slow"}

    def completions(
        self, prompts: Sequence[Any], sampling: Sampling, places: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        for i, place in enumerate(places):
            time.sleep(self.pause)
            self.asked += 1
            yield i, [Completion(f"{place}/{s % 2}", (place, s % 2), "eos") for s in range(sampling.n)]

    def likelihoods(self, pairs: Sequence[Any]) -> Iterator[tuple[int, list[float]]]:
        for i, (prefix, option) in reversed(list(enumerate(pairs))):
            time.sleep(self.pause)
            self.asked += 1
            yield i, [-float(sum(prefix) + token) for token in option]


PROMPTS = [[i, i + 1] for i in range(40)]


def ask_slowly(folder: Path) -> None:
    Journal(Slow(0.02), folder).generate(PROMPTS, SAMPLED)


def test_a_question_is_asked_once(tmp_path: Path) -> None:
    pairs = [([1, 2], [3]), ([1, 2], [4, 5]), ([6], [7])]
    first, second = Slow(), Slow()
    answers = Journal(first, tmp_path).logprobs(pairs)
    assert answers == [[-6.0], [-7.0, -8.0], [-13.0]]
    assert Journal(second, tmp_path).logprobs([*pairs, ([8], [9])]) == [*answers, [-17.0]]
    assert (first.asked, second.asked) == (3, 1)


def test_a_kept_completion_is_the_one_the_engine_gave(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    engine = TransformersGenerator(*tiny)
    prompts = [tiny[1](text)["input_ids"] for text in ("a", "bc", "def")]
    fresh = engine.generate(prompts, SAMPLED)
    assert Journal(engine, tmp_path).generate(prompts, SAMPLED) == fresh
    kept = Journal(engine, tmp_path)
    assert kept.generate(prompts, SAMPLED) == fresh
    assert kept.asked == 0


def test_a_question_whose_neighbours_are_known_draws_the_numbers_of_its_own_place(
    tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    engine = TransformersGenerator(*tiny)
    prompts = [tiny[1](text)["input_ids"] for text in ("a", "bc", "def")]
    whole = engine.generate(prompts, SAMPLED)
    Journal(engine, tmp_path).generate(prompts[:2], SAMPLED)
    rest = Journal(engine, tmp_path)
    assert rest.generate(prompts, SAMPLED) == whole
    assert rest.asked == 1


@pytest.mark.parametrize(
    "other",
    [
        Sampling(n=3, temperature=0.8, max_tokens=6, seed=6),
        Sampling(n=2, temperature=0.8, max_tokens=6, seed=5),
        Sampling(n=3, temperature=0.7, max_tokens=6, seed=5),
        Sampling(n=3, temperature=0.8, max_tokens=7, seed=5),
        Sampling(n=3, temperature=0.8, max_tokens=6, seed=5, stop=("x",)),
    ],
)
def test_another_way_to_sample_is_another_question(other: Sampling, tmp_path: Path) -> None:
    Journal(Slow(), tmp_path).generate(PROMPTS, SAMPLED)
    second = Slow()
    Journal(second, tmp_path).generate(PROMPTS, other)
    assert second.asked == len(PROMPTS)


def test_other_weights_tokenizers_and_engines_have_other_folders(tmp_path: Path) -> None:
    mine = {"base": "a", "tokenizer": "t", "engine": "slow", "vllm": "0.32.0"}
    changes = ({}, {"base": "b"}, {"tuned": "c"}, {"tokenizer": "u"}, {"engine": "vllm"}, {"vllm": "0.33.0"})
    identities = [mine | change for change in changes]
    folders = {open_folder(tmp_path, identity) for identity in identities}
    assert len(folders) == len(identities)
    assert open_folder(tmp_path, dict(reversed(mine.items()))) in folders


def test_killing_an_evaluation_repeats_no_finished_item(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=ask_slowly, args=(tmp_path,))
    process.start()
    while sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("*.jsonl")) < 10:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    finished = sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("*.jsonl"))
    engine = Slow()
    answers = Journal(engine, tmp_path).generate(PROMPTS, SAMPLED)
    assert 10 <= finished < len(PROMPTS)
    assert engine.asked == len(PROMPTS) - finished
    assert [a[0].text for a in answers] == [f"{i}/0" for i in range(len(PROMPTS))]


def test_a_line_that_a_kill_tore_is_asked_again(tmp_path: Path) -> None:
    Journal(Slow(), tmp_path).generate(PROMPTS, SAMPLED)
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-7])
    engine = Slow()
    answers = Journal(engine, tmp_path).generate(PROMPTS, SAMPLED)
    assert engine.asked == 1
    assert answers == Journal(Slow(), tmp_path / "elsewhere").generate(PROMPTS, SAMPLED)


def twice_at_once(work: Callable[[Path], None], folder: Path) -> list[int | None]:
    """Exit codes of two processes that do the same work on one folder."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(folder,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_two_evaluations_at_once_do_not_corrupt_each_other(tmp_path: Path) -> None:
    assert twice_at_once(ask_slowly, tmp_path) == [0, 0]
    lines = [line for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) >= len(PROMPTS)
    assert all(len(json.loads(line)) == 2 for line in lines)
    engine = Slow()
    answers = Journal(engine, tmp_path).generate(PROMPTS, SAMPLED)
    assert engine.asked == 0
    assert answers == Journal(Slow(), tmp_path / "elsewhere").generate(PROMPTS, SAMPLED)


def open_many(folder: Path) -> None:
    for i in range(60):
        open_folder(folder, {"base": str(i)})


def test_two_evaluations_may_open_the_same_folders_at_once(tmp_path: Path) -> None:
    assert twice_at_once(open_many, tmp_path) == [0, 0]


def test_a_disk_that_takes_a_part_of_a_line_is_full_and_what_it_took_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = io.FileIO

    class Full(real):  # type: ignore[misc, valid-type]
        def write(self, line: Any) -> int:
            return super().write(bytes(line)[: 20 if self.tell() > 100 else None])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode="r", **options: Full(path, "a") if mode == "ab" else real(path))
        with pytest.raises(OSError, match="No space left on device"):
            Journal(Slow(), tmp_path).generate(PROMPTS, SAMPLED)
    engine = Slow()
    answers = Journal(engine, tmp_path).generate(PROMPTS, SAMPLED)
    assert 0 < engine.asked < len(PROMPTS)
    assert answers == Journal(Slow(), tmp_path / "elsewhere").generate(PROMPTS, SAMPLED)


def test_progress_counts_what_was_known_before(tmp_path: Path) -> None:
    Journal(Slow(), tmp_path).generate(PROMPTS[:30], SAMPLED)
    told: list[tuple[int, int]] = []
    Journal(Slow(), tmp_path, watch=lambda done, whole: told.append((done, whole))).generate(PROMPTS, SAMPLED)
    assert told == [(done, 40) for done in range(31, 41)]
