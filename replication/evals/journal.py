"""Answers that are never lost and never paid for twice: a store between an eval and the engine it asks.

    <root>/answers/<whose>/identity.json             the weights, the tokenizer and the engine, by digest and version
                          /<eval>@<version>/<who>.jsonl    one line per finished question: its key and its answer

`whose` is a digest over all of identity.json, so another model's answer, or this model's by another engine, number
format or tokenizer, lies in another folder. The key of a question is a digest over its token ids, how it is to be
sampled, and its place: a change of profile changes these where it changes what is asked, and only there.

Every line is written as soon as the engine has the answer. Each process writes a file of its own and reads all of them,
so a killed evaluation asks only what was unfinished, and two at once do not disturb each other. A last line that a kill
tore is left out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from replication.evals.completions import Completion, Ids
from replication.evals.generate import Engine
from replication.evals.lengths import Pair
from replication.evals.sampling import Sampling
from replication.runs import write_json

Watch = Callable[[int, int], None]
_Answer = TypeVar("_Answer")


def open_folder(root: Path, identity: dict[str, str]) -> Path:
    """The folder of one model's answers, made on the first use."""
    folder = root / "answers" / _digest(sorted(identity.items()))
    if not (folder / "identity.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "identity.json", identity)
    return folder


class Journal:
    """A Generator that asks its engine only what nobody has asked before. `watch(done, all)` is told of progress."""

    def __init__(self, engine: Engine, folder: Path, *, watch: Watch | None = None) -> None:
        """Args:
        folder: of one eval's answers by one model.
        """
        self._engine, self._folder, self._watch = engine, folder, watch
        self.asked = 0  # questions that reached the engine

    @property
    def tokenizer(self) -> Any:
        """The engine's tokenizer."""
        return self._engine.tokenizer

    @property
    def context(self) -> int:
        """Positions of the engine's model."""
        return self._engine.context

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in order."""
        how = asdict(sampling)
        keys = [_digest(["generate", [int(i) for i in prompt], how, place]) for place, prompt in enumerate(prompts)]

        def ask(missing: list[int]) -> Iterator[tuple[int, list[Completion]]]:
            return self._engine.completions([prompts[i] for i in missing], sampling, missing)

        return self._answers(keys, ask, _pack, _unpack)

    def logprobs(self, pairs: Sequence[Pair]) -> list[list[float]]:
        """Natural-log probability of each token of an option given its prefix and the option's earlier tokens."""
        keys = [_digest(["logprobs", [int(i) for i in prefix], [int(i) for i in option]]) for prefix, option in pairs]

        def ask(missing: list[int]) -> Iterator[tuple[int, list[float]]]:
            return self._engine.likelihoods([pairs[i] for i in missing])

        return self._answers(keys, ask, lambda values: values, lambda values: values)

    def _answers(
        self,
        keys: list[str],
        ask: Callable[[list[int]], Iterator[tuple[int, _Answer]]],
        pack: Callable[[_Answer], Any],
        unpack: Callable[[Any], _Answer],
    ) -> list[_Answer]:
        """The answers to all keys, in order; those that are not known are asked for and written down."""
        known = self._read(set(keys))
        missing = [i for i, key in enumerate(keys) if key not in known]
        found = {key: unpack(answer) for key, answer in known.items()}
        done = len(keys) - len(missing)
        if missing:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{uuid.uuid4().hex}.jsonl").open("ab", buffering=0) as file:
                for place, answer in ask(missing):
                    key = keys[missing[place]]
                    found[key] = answer
                    _append(file, json.dumps([key, pack(answer)], separators=(",", ":")).encode() + b"\n")
                    self.asked += 1
                    done += 1
                    if self._watch:
                        self._watch(done, len(keys))
        return [found[key] for key in keys]

    def _read(self, wanted: set[str]) -> dict[str, Any]:
        known = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                for line in file:
                    # A line that a kill or a full disk tore, and the next one on its end, are asked again.
                    with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
                        key, answer = json.loads(line)
                        if key in wanted:
                            known[key] = answer
        return known


def _append(file: FileIO, line: bytes) -> None:
    """Write a line; a disk that takes only a part of it is full, which the system says at the next write alone."""
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _pack(completions: list[Completion]) -> list[Any]:
    """Different completions once each, and which of them every sample is: samples at a low temperature agree."""
    different = list(dict.fromkeys(completions))
    place = {completion: i for i, completion in enumerate(different)}
    return [[[c.text, c.tokens, c.finish, c.stop] for c in different], [place[c] for c in completions]]


def _unpack(packed: list[Any]) -> list[Completion]:
    different = [Completion(text, tuple(tokens), finish, stop) for text, tokens, finish, stop in packed[0]]
    return [different[i] for i in packed[1]]
