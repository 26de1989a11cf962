"""What is asked of a model: every benchmark is a frozen, versioned value.

    Choice    which continuation is likeliest         Code     programs, executed against tests
    Maths     word problems with a final number       HeldOut  loss on held-out text
    Words     transcripts of speech                   Labels   classes of short texts
    DecodeSpeed   how fast a speech model writes

Two scores may be compared when their specs are equal. A change to how an eval asks or grades raises its `version`.
Where a published convention is followed (`suite.py` makes such specs), `profile` names it. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from replication.config import Source, require

# What happens to a question that does not fit into the model's context: refuse the whole eval before anything is
# computed, or drop the question's beginning, as lm-evaluation-harness does, and count it (metric `truncated`).
TooLong = Literal["error", "cut"]
# How the rows of a choice benchmark are laid out: our own columns, or those of the hub's data sets.
Form = Literal["plain", "hellaswag", "arc", "winogrande", "letters"]


@dataclass(frozen=True)
class Shots:
    """Worked examples before every question: `count` rows of `source`.

    With a seed, drawn anew for each question from one `random.Random(seed)`, in the order of the questions, as
    lm-evaluation-harness does (its seed is 1234). Without one, the first `count` rows for all.
    """

    source: Source
    count: int
    seed: int | None = 1234

    def __post_init__(self) -> None:
        require(self.count > 0, "Shots.count", self.count, "a positive number; without examples, give no Shots")


@dataclass(frozen=True)
class Choice:
    """Multiple choice by log-likelihood: `query` + one of `choices`, or one `continuation` after `contexts`.

    `metric` is the score that counts for the forgetting mean; all three are always measured.
    """

    name: str
    source: Source
    version: int = 1
    form: Form = "plain"
    shots: Shots | None = None
    metric: Literal["acc", "acc_norm", "acc_token"] = "acc"
    too_long: TooLong = "error"
    profile: str | None = None

    def __post_init__(self) -> None:
        _check_named(self)
        _check_one_of("Choice.form", self.form, get_args(Form))
        _check_one_of("Choice.metric", self.metric, ("acc", "acc_norm", "acc_token"))


@dataclass(frozen=True)
class Code:
    """Programs completed from a prompt and executed against tests (HumanEval's columns), pass@k.

    `stop` ends a generation, `cut` is where a finished text is cut before it is executed (as `stop` where empty): a
    generation that goes on to every convention's cut can be re-scored under each.
    """

    name: str
    source: Source
    samples: int = 50
    temperature: float = 0.2
    top_p: float = 0.95
    max_tokens: int = 256
    stop: tuple[str, ...] = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```")
    template: str = "{prompt}"
    timeout: float = 3.0
    version: int = 1
    prompt: Literal["as_is", "stripped", "stripped_line"] = "as_is"
    cut: tuple[str, ...] = ()
    too_long: TooLong = "error"
    profile: str | None = None

    def __post_init__(self) -> None:
        _check_named(self)
        _check_one_of("Code.prompt", self.prompt, ("as_is", "stripped", "stripped_line"))
        require(self.samples > 0, "Code.samples", self.samples, "a positive number")
        require(self.max_tokens > 0, "Code.max_tokens", self.max_tokens, "a positive number")
        require(self.timeout > 0, "Code.timeout", self.timeout, "seconds, positive")
        sampled = self.temperature > 0 or self.samples == 1
        require(sampled, "Code.temperature", self.temperature, "positive, or one sample")


@dataclass(frozen=True)
class Maths:
    """Word problems answered greedily, exact match on the final number (GSM8K's columns).

    `stop` and `cut` as for Code. `metric` is the extraction that counts; both are always measured.
    """

    name: str
    source: Source
    max_tokens: int = 256
    stop: tuple[str, ...] = ("Question:", "\n\n")
    template: str = "Question: {question}\nAnswer:"
    version: int = 1
    shots: Shots | None = None
    cut: tuple[str, ...] = ()
    metric: Literal["strict", "flexible"] = "strict"
    too_long: TooLong = "error"
    profile: str | None = None

    def __post_init__(self) -> None:
        _check_named(self)
        _check_one_of("Maths.metric", self.metric, ("strict", "flexible"))
        require(self.max_tokens > 0, "Maths.max_tokens", self.max_tokens, "a positive number")


@dataclass(frozen=True)
class HeldOut:
    """Loss on held-out text: nats per token and bits per byte. With `template`, on responses only."""

    name: str
    source: Source
    seq_len: int
    template: str | None = None
    version: int = 1


@dataclass(frozen=True)
class Words:
    """Word error rate of greedy transcripts, raw and normalised, and the loss on the reference transcripts.

    `metric` is the one that counts. `batch` clips are heard together. Of a clip longer than the model hears, "cut"
    hears the beginning, and counts it (metric `truncated`).
    """

    name: str
    source: Source
    language: str | None = None
    max_tokens: int = 224
    batch: int = 16
    metric: Literal["wer", "wer_normalised"] = "wer"
    version: int = 1
    too_long: TooLong = "error"

    def __post_init__(self) -> None:
        _check_one_of("Words.too_long", self.too_long, get_args(TooLong))
        require(self.max_tokens > 0, "Words.max_tokens", self.max_tokens, "a positive number")
        require(self.batch > 0, "Words.batch", self.batch, "a positive number")


@dataclass(frozen=True)
class DecodeSpeed:
    """Tokens a second of greedy decoding: merged, with the adapter beside the weights, and of the untuned model.

    Every one is timed in each of `turns`, on the same clips and for exactly `tokens` tokens a clip.
    """

    name: str
    source: Source
    language: str | None = None
    tokens: int = 32
    batch: int = 8
    turns: int = 11
    version: int = 1

    def __post_init__(self) -> None:
        require(self.turns > 1, "DecodeSpeed.turns", self.turns, "two or more")


@dataclass(frozen=True)
class Labels:
    """Accuracy, macro-F1 and loss of a classifier of short texts; `metric` is the one that counts."""

    name: str
    source: Source
    labels: int
    seq_len: int
    metric: Literal["macro_f1", "accuracy"] = "macro_f1"
    version: int = 1


Eval = Choice | Code | Maths | HeldOut | Words | DecodeSpeed | Labels


def _check_named(spec: Choice | Code | Maths) -> None:
    require(
        bool(spec.name) and "/" not in spec.name, f"{type(spec).__name__}.name", spec.name, "a name without slashes"
    )
    _check_one_of(f"{type(spec).__name__}.too_long", spec.too_long, get_args(TooLong))


def _check_one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    require(value in known, field, value, ", ".join(known[:-1]) + f" or {known[-1]}")
