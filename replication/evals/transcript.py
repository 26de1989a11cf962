"""What has been generated so far, sample by sample: tokens, whether a sample is finished and why.

A row is (prompt, sample). It is finished by an end-of-text token, by a stop string in its text, or by its length.
Text is looked for stop strings in the pieces that single tokens decode to, which is cheap; what counts is the
decoding of the whole (completions.py), which settles every find and cuts the text at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from replication.evals.completions import LEAD, Completion, complete, text_behind
from replication.evals.sampling import Sampling

Ids = Sequence[int]


class Transcript:
    """The prompts of one call and the growing tokens of every row; row = prompt * n + sample."""

    def __init__(
        self,
        prompts: Sequence[Ids],
        sampling: Sampling,
        tokenizer: Any,
        *,
        eos: frozenset[int],
        context: int,
        places: Sequence[int],
    ) -> None:
        """Args:
        eos: tokens that end a text.
        context: positions of the model; a prompt and its completion together have no more.
        places: the number that names each prompt's stream of random numbers.
        """
        self.prompts, self.sampling = prompts, sampling
        self._tokenizer, self._eos = tokenizer, eos
        self._limit = np.array([min(sampling.max_tokens, context - len(p)) for p in prompts], np.int64)
        rows = len(prompts) * sampling.n
        self._tokens = np.zeros((rows, sampling.max_tokens), np.int32)
        self._count = np.zeros(rows, np.int64)
        self._uniform = _streams(places, sampling)
        self._longest_stop = max((len(stop) for stop in sampling.stop), default=0)
        self._pieces: dict[int, str] = {}
        self._ended = np.zeros(rows, bool)
        self._endings: dict[tuple[int, bytes], Completion] = {}

    def uniforms(self, rows: np.ndarray) -> np.ndarray:
        """The random number in [0, 1) of each row's next token; zeros when greedy."""
        if self.sampling.temperature == 0:
            return np.zeros(len(rows), np.float32)
        return self._uniform[rows, self._count[rows]]

    def append(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        """Add one token to each row."""
        self._tokens[rows, self._count[rows]] = tokens
        self._count[rows] += 1

    def finished(self, rows: np.ndarray) -> np.ndarray:
        """Which rows end with the token just added."""
        return np.array([self._ends(row) for row in rows.tolist()], bool)

    def end(self, rows: np.ndarray) -> None:
        """Take these rows as finished."""
        self._ended[rows] = True

    def done(self) -> list[int]:
        """The prompts whose samples are all finished."""
        return np.flatnonzero(self._ended.reshape(len(self.prompts), self.sampling.n).all(-1)).tolist()

    def completions(self, prompt: int) -> list[Completion]:
        """The samples of a prompt that is done."""
        first = prompt * self.sampling.n
        return [self._completion(row) for row in range(first, first + self.sampling.n)]

    def _completion(self, row: int) -> Completion:
        """Equal samples are decoded once."""
        prompt, tokens = row // self.sampling.n, self._tokens[row, : self._count[row]]
        key = (prompt, tokens.tobytes())
        if key not in self._endings:
            self._endings[key] = complete(
                self.prompts[prompt],
                tokens.tolist(),
                stops=self.sampling.stop,
                tokenizer=self._tokenizer,
                eos=self._eos,
            )
        return self._endings[key]

    def _ends(self, row: int) -> bool:
        prompt, count = row // self.sampling.n, int(self._count[row])
        if self._tokens[row, count - 1] in self._eos or count >= self._limit[prompt]:
            return True
        # A stop string that ends in the last piece starts at most its own length before it.
        recent = self._tokens[row, max(0, count - self._longest_stop) : count].tolist()
        text = "".join(self._piece(token) for token in recent)
        if not any(stop in text for stop in self.sampling.stop):
            return False
        whole = self._text(prompt, self._tokens[row, :count].tolist())
        return any(stop in whole for stop in self.sampling.stop)

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._text(0, [token], lead=1)
        return self._pieces[token]

    def _text(self, prompt: int, tokens: Ids, *, lead: int = LEAD) -> str:
        return text_behind(self.prompts[prompt][-lead:], tokens, tokenizer=self._tokenizer, eos=self._eos)


def _streams(places: Sequence[int], sampling: Sampling) -> np.ndarray:
    """Random numbers (rows, max_tokens): a stream per prompt, so that other prompts do not move them."""
    if sampling.temperature == 0 or not places:
        return np.zeros((0, 0), np.float32)
    shape = (sampling.n, sampling.max_tokens)
    return np.concatenate([np.random.default_rng([sampling.seed, p]).random(shape, dtype=np.float32) for p in places])
