"""A size at which the whole study runs, as a value: model, settings, rates and the questions asked.

    Scale --has--> Setting (data, lengths, rates) --expands to--> Run

Standard library only, as the configuration of a run is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from replication.config import Method, Precision, Schedule, Speed, Task, require
from replication.specs import Eval


@dataclass(frozen=True)
class DataSize:
    """How much a data set holds, for planning before anything is fetched: documents, tokens, and who says so."""

    documents: int
    tokens: float
    source: str


@dataclass(frozen=True)
class Setting:
    """One column of the paper's figures: data, lengths, batch and the rate of every arm.

    `lengths` are tokens for CPT and epochs for IFT. `rates` pairs an arm's label ("full", "r16") with its rate.
    `separate` is False where one run is scored at every length, as the paper's Tulu mix was. `tokenizer` and
    `weight_decay` stand in for the scale's where they are given. `target_loss` is "" where no held-out loss is asked.
    `methods` pairs labels with methods where the arms are not full fine-tuning and one LoRA per rank of the scale.
    `also` names evals that only this setting asks; `sweep_length` is that of its rate sweep, else the middle length.
    """

    regime: Literal["cpt", "ift"]
    domain: str
    title: str
    task: Task
    lengths: tuple[float, ...]
    rates: tuple[tuple[str, float], ...]
    schedule: Schedule
    global_batch: int
    micro_batch: int
    seq_len: int
    target: str
    target_loss: str
    tokenizer: str | None = None
    weight_decay: float | None = None
    separate: bool = True
    size: DataSize | None = None
    methods: tuple[tuple[str, Method], ...] = ()
    also: tuple[str, ...] = ()
    sweep_length: float | None = None

    def __post_init__(self) -> None:
        require(len(self.lengths) > 0, "Setting.lengths", self.lengths, "at least one length")
        require(self.regime in ("cpt", "ift"), "Setting.regime", self.regime, "cpt or ift")

    def rate(self, arm: str) -> float:
        """Learning rate of an arm, by label."""
        known = dict(self.rates)
        if arm not in known:
            raise ValueError(f"no learning rate for arm {arm!r}; this setting has {sorted(known)}")
        return known[arm]


@dataclass(frozen=True)
class Scale:
    """A size at which the whole study runs: model, data, lengths, rates and questions. A value, no code.

    `forgetting` names the choice evals whose unweighted mean is the forgetting score, `source_loss` the held-out
    loss on what the base was trained on (the second forgetting axis); "" where there is none. `engine`
    answers the evals: transformers for models so small that starting vLLM costs more than the work. `gpus` is the
    number that a run of the scale is planned for, 0 for a CPU. `zero_stage_lora` stands in for `zero_stage` in LoRA
    runs. `ablations` names those that the scale affords, as "ift_code.alpha"; `fixed_alpha` (the first version's,
    whatever the rank) and `weight_decays` (of Figure 4) are what they vary. `printed` marks the numbers of a
    publication: there is nothing to train. `side` names the side study that the scale is for
    (`experiments/sides.py`).
    """

    name: str
    model: str
    settings: tuple[tuple[str, Setting], ...]
    evals: tuple[Eval, ...]
    forgetting: tuple[str, ...]
    source_loss: str
    ranks: tuple[int, ...]
    optim: Literal["lionw", "adamw"] = "lionw"
    weight_decay: float = 0.0
    dropout: float = 0.05
    tokenizer: str | None = None
    precision: Precision = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 0
    zero_stage_lora: Literal[0, 1, 2, 3] | None = None
    workers: int = 1
    threads: int | None = None
    sweep_rates: tuple[tuple[str, tuple[float, ...]], ...] = ()
    engine: Literal["transformers", "vllm"] = "transformers"
    speed: Speed = Speed()
    gpus: int = 0
    ablations: tuple[str, ...] = ()
    fixed_alpha: float = 32
    weight_decays: tuple[float, ...] = (5e-5, 1e-4)
    printed: bool = False
    side: str = ""

    def __post_init__(self) -> None:
        names = [e.name for e in self.evals]
        require(len(set(names)) == len(names), "Scale.evals", names, "names that differ")
        asked = {*self.forgetting, *([self.source_loss] if self.settings else [])}
        asked |= {n for _, s in self.settings for n in (s.target, s.target_loss, *s.also)}
        missing = sorted(asked - {"", *names})
        require(not missing, "Scale.evals", names, f"an eval for each of {missing}")

    def eval(self, name: str) -> Eval:
        """The eval of that name."""
        for item in self.evals:
            if item.name == name:
                return item
        raise ValueError(f"scale {self.name!r} has no eval {name!r}; it has {[e.name for e in self.evals]}")
