"""What is asked of a model, and how it is graded.

    generate.py     the Generator protocol (sample, score) and the transformers engine
    decoding.py     its decode loop          transcript.py  which samples are finished
    key_values.py   its cache                sampling.py    greedy and top-p
    likelihood.py   log-probabilities of given continuations
    vllm_engine.py  the vLLM engine          vllm_worker.py what runs inside its worker
    journal.py      keeps every answer       completions.py from tokens to text
    choice.py       multiple choice          code.py        programs, pass@k, diversity
    maths.py        word problems            heldout.py     loss on held-out text
    forms.py        hub columns to rows      shots.py       worked examples
    sandbox.py      executes generated programs, in processes of zygote.py
    rehearsal.py    an eval up to its first question
    reader.py       what answers where nothing is continued
    transcriber.py  speech models    words.py  word error rate    decode_speed.py  tokens a second
    classifier.py   classifiers      labels.py accuracy, macro-F1
    prompts.py      rows to token ids        result.py      what an eval hands back

An eval is a spec (`replication.specs`) and a function score(spec, generator, seed) -> Result. Scores of the same
weights by the same call are equal to the last digit, so the forgetting of a base against itself is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replication.evals import choice, code, decode_speed, heldout, labels, maths, words
from replication.evals.result import Result
from replication.specs import Choice, Code, DecodeSpeed, Eval, HeldOut, Labels, Maths, Words

EVALS: dict[type, Callable[[Any, Any, int], Result]] = {
    Choice: choice.score,
    Code: code.score,
    Maths: maths.score,
    HeldOut: heldout.score,
    Words: words.score,
    DecodeSpeed: decode_speed.score,
    Labels: labels.score,
}


def evaluate(spec: Eval, engine: Any, seed: int) -> Result:
    """Score one model with one eval: `engine` is a Generator, or the Reader of a speech model or classifier.

    `seed` decides what is sampled, where an eval samples.
    """
    return EVALS[type(spec)](spec, engine, seed)
