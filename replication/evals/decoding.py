"""The decode loop: every different text is computed once, however many samples share it.

Fifty samples of one prompt at temperature 0.2 agree on most of their tokens. So what is in flight is not samples but
texts: a prompt starts as one text with n samples on it; where they draw different tokens the text branches, and its
row of the key-value cache is copied. Each sample draws with its own random numbers, so this changes nothing but the
cost.

Texts of one batch end at the same column and are padded on the left: a step writes one column of the cache. A step
costs its overhead however few texts are left; so a batch is left as soon as few of its samples remain
(`STRAGGLERS`), and the rest of many batches finish together.

    prompts, longest first --> batches --> prefill --> steps: draw, branch, drop, forward --> stragglers --> steps
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from replication.evals.key_values import KeyValues, merged
from replication.evals.sampling import choose
from replication.evals.transcript import Transcript

# A batch is left when at most this share of its samples is unfinished.
STRAGGLERS = 1 / 8
# Finished texts stay in the cache until they are this share of it: dropping them copies the rest.
DROP = 1 / 4

Chunk = list[tuple[int, range]]  # prompts, and which samples of each


@dataclass
class _Flight:
    """Texts being continued, and the samples on them."""

    cache: KeyValues
    start: torch.Tensor  # (texts,) first real column
    logits: torch.Tensor  # (texts, vocabulary) of the next token
    samples: np.ndarray  # (samples,) row of the transcript
    owner: np.ndarray  # (samples,) text


def run(model: Any, transcript: Transcript, *, batch_tokens: int) -> Iterator[None]:
    """Continue every sample of the transcript to its end; pauses after each batch, for what is done to be taken."""
    waiting: list[_Flight] = []
    for chunk in _chunks(transcript, batch_tokens):
        flight = _prefill(model, transcript, chunk)
        most = len(flight.samples)
        _step_until(model, transcript, flight, int(most * STRAGGLERS))
        if len(flight.samples):
            waiting.append(flight)
        if sum(len(f.samples) for f in waiting) > most * (1 - STRAGGLERS):
            _step_until(model, transcript, _merge(waiting), 0)
            waiting = []
        yield
    if waiting:
        _step_until(model, transcript, _merge(waiting), 0)
        yield


def _chunks(transcript: Transcript, batch_tokens: int) -> Iterator[Chunk]:
    """Prompts and samples, longest prompts first, such that a chunk never holds more than `batch_tokens` positions."""
    n, prompts = transcript.sampling.n, transcript.prompts
    chunk: Chunk = []
    held = most = 0
    for prompt in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        first = 0
        while first < n:
            if not chunk:
                held, most = 0, max(1, batch_tokens // (len(prompts[prompt]) + transcript.sampling.max_tokens))
            samples = range(first, min(n, first + most - held))
            chunk.append((prompt, samples))
            held, first = held + len(samples), samples.stop
            if held == most:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _prefill(model: Any, transcript: Transcript, chunk: Chunk) -> _Flight:
    """Read each prompt of the chunk once: one text, with all its samples on it."""
    prompts = [transcript.prompts[p] for p, _ in chunk]
    width = max(len(p) for p in prompts)
    ids = np.zeros((len(prompts), width), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
    start = torch.tensor([width - len(p) for p in prompts], device=model.device)
    column = torch.arange(width, device=model.device)
    visible = (column[None, :] <= column[:, None]) & (column >= start[:, None])[:, None, :]
    # Padding sees itself, or its softmax would be over nothing.
    visible |= torch.eye(width, dtype=torch.bool, device=model.device)
    cache = KeyValues()
    logits = model(
        input_ids=torch.from_numpy(ids).to(model.device),
        position_ids=(column - start[:, None]).clamp(min=0),
        attention_mask=visible[:, None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    samples = np.array([p * transcript.sampling.n + s for p, drawn in chunk for s in drawn])
    owner = np.repeat(np.arange(len(chunk)), [len(drawn) for _, drawn in chunk])
    return _Flight(cache, start, logits, samples, owner)


def _step_until(model: Any, transcript: Transcript, flight: _Flight, few: int) -> None:
    """Step until at most `few` samples are unfinished; on return only those are in the flight."""
    while True:
        tokens = _draw(transcript, flight)
        if len(flight.samples):
            _forward(model, flight, tokens)
        if len(flight.samples) <= few:
            return


def _draw(transcript: Transcript, flight: _Flight) -> torch.Tensor:
    """Draw a token for every sample, take the finished ones out, branch the texts: the next token of each text."""
    device, sampling = flight.logits.device, transcript.sampling
    owner = torch.from_numpy(flight.owner).to(device)
    uniform = torch.from_numpy(transcript.uniforms(flight.samples)).to(device)
    drawn = choose(flight.logits, owner, uniform, temperature=sampling.temperature, top_p=sampling.top_p).cpu().numpy()
    transcript.append(flight.samples, drawn)
    # A branch is a text and a token; its samples have all their tokens in common, so one of them speaks for all.
    branches = flight.owner * flight.logits.shape[1] + drawn
    branches, speaker, branch = np.unique(branches, return_index=True, return_inverse=True)
    parent, token = flight.owner[speaker], drawn[speaker]
    alive = ~transcript.finished(flight.samples[speaker])
    transcript.end(flight.samples[~alive[branch]])
    text = _place(parent, alive, flight.cache.rows)
    flight.samples, flight.owner = flight.samples[alive[branch]], text[branch][alive[branch]]
    return _branch(flight, parent[alive], text[alive], token[alive])


def _place(parent: np.ndarray, alive: np.ndarray, texts: int) -> np.ndarray:
    """The text of each branch: the first living branch of a text stays in its place, the others go behind the last."""
    place = np.full(len(parent), -1)
    living = np.flatnonzero(alive)
    _, first = np.unique(parent[living], return_index=True)
    place[living[first]] = parent[living[first]]
    others = np.setdiff1d(living, living[first])
    place[others] = texts + np.arange(len(others))
    return place


def _branch(flight: _Flight, parent: np.ndarray, text: np.ndarray, token: np.ndarray) -> torch.Tensor:
    """Copy the cache to new texts, drop dead ones if they are many; returns the next token of each text."""
    device = flight.start.device
    new = np.sort(text[text >= flight.cache.rows])
    if len(new):
        source = torch.from_numpy(parent[np.argsort(text)][-len(new) :]).to(device)
        flight.cache.branch(source)
        flight.start = torch.cat([flight.start, flight.start[source]])
    tokens = np.zeros(flight.cache.rows, np.int64)
    tokens[text] = token
    if len(text) <= (1 - DROP) * flight.cache.rows:
        living = np.sort(text)
        flight.owner = np.searchsorted(living, flight.owner)
        keep = torch.from_numpy(living).to(device)
        flight.cache.select(keep)
        flight.start, tokens = flight.start[keep], tokens[living]
    return torch.from_numpy(tokens).to(device)


def _forward(model: Any, flight: _Flight, tokens: torch.Tensor) -> None:
    """Feed one token per text; leaves the logits of the next."""
    column = flight.cache.get_seq_length()
    columns = torch.arange(column + 1, device=tokens.device)
    flight.logits = model(
        input_ids=tokens[:, None],
        position_ids=(column - flight.start)[:, None],
        attention_mask=(columns >= flight.start[:, None])[:, None, None],
        past_key_values=flight.cache,
        use_cache=True,
    ).logits[:, -1]


def _merge(flights: list[_Flight]) -> _Flight:
    last = max(f.cache.get_seq_length() for f in flights)
    before = np.cumsum([0, *(f.cache.rows for f in flights)])
    return _Flight(
        cache=merged([f.cache for f in flights]),
        start=torch.cat([f.start + last - f.cache.get_seq_length() for f in flights]),
        logits=torch.cat([f.logits for f in flights]),
        samples=np.concatenate([f.samples for f in flights]),
        owner=np.concatenate([f.owner + shift for f, shift in zip(flights, before[:-1], strict=True)]),
    )
