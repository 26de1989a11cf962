"""What published conventions prescribe for the same benchmark names, as values, each with its source.

    paper     what "LoRA Learns Less and Forgets Less" used: bigcode for HumanEval, lm-eval for GSM8K, llm-foundry's
              Eval Gauntlet for the choices
    lm_eval   EleutherAI/lm-evaluation-harness 0.4.13: humaneval 1.0, gsm8k 3.0, hellaswag, arc_challenge,
              winogrande and mmlu 1.0
    bigcode   bigcode-project/bigcode-evaluation-harness: humaneval
    evalplus  evalplus/evalplus 0.3: direct completion of HumanEval's prompts

The same generations score differently under each: what is asked (prompt, shots), where a text ends (cut), and what
counts (extraction, metric). A benchmark that a convention does not define is None; nothing is filled in. How often
and how hot to sample belongs to the benchmark (`suite.py`), not to the convention.

Known differences that these values do not carry:

    bigcode    a prompt that is too long loses its end; here that is an error (HumanEval's longest has 1,360
               characters, so it does not happen)
    evalplus   also replaces tabs by four spaces, keeps only what the entry point needs (tree-sitter) and runs its own
               tests, each with its own limit; here the cut text and HumanEval's tests are executed
    paper      llm-foundry draws the examples of a choice benchmark from the benchmark itself and joins them by one
               newline; here they come from the training split and are joined as lm-eval does
    lm_eval    its humaneval takes one greedy sample

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from replication.specs import TooLong


@dataclass(frozen=True)
class CodeRules:
    """How HumanEval is asked and executed. `timeout` in seconds a program.

    `max_tokens` is the convention's own limit, of new tokens, or with `counts_prompt` of prompt and answer together.
    """

    prompt: Literal["as_is", "stripped", "stripped_line"]
    cut: tuple[str, ...]
    timeout: float
    max_tokens: int
    source: str
    counts_prompt: bool = False
    too_long: TooLong = "error"


@dataclass(frozen=True)
class MathsRules:
    """How GSM8K is asked and graded; `metric` is the extraction that counts."""

    shots: int
    cut: tuple[str, ...]
    metric: Literal["strict", "flexible"]
    max_tokens: int
    source: str
    too_long: TooLong = "error"


@dataclass(frozen=True)
class ChoiceRules:
    """How a choice benchmark is asked and scored; `metric` is the score that counts."""

    shots: int
    metric: Literal["acc", "acc_norm", "acc_token"]
    source: str
    too_long: TooLong = "cut"


@dataclass(frozen=True)
class Profile:
    """One published convention. `choice` by benchmark; what is absent it does not define."""

    name: str
    code: CodeRules | None = None
    maths: MathsRules | None = None
    choice: Mapping[str, ChoiceRules] = field(default_factory=dict)


_BIGCODE = CodeRules(
    prompt="stripped",
    cut=("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>"),
    timeout=3.0,
    max_tokens=512,
    counts_prompt=True,
    source="bigcode_eval/tasks/humaneval.py (prompt.strip() is asked and executed, stop words, 3 s); "
    "--max_length_generation is 512 by default, prompt included",
)
_LM_EVAL_CODE = CodeRules(
    prompt="as_is",
    cut=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
    timeout=3.0,
    max_tokens=1024,
    too_long="cut",
    source="lm_eval/tasks/humaneval/humaneval.yaml 1.0; 3 s is the default of code_eval",
)
_EVALPLUS = CodeRules(
    prompt="stripped_line",
    cut=(
        "<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(",
        "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ",
    ),
    # One second an input or four times the reference's, whichever is more, and one over: HumanEval has 8 on average.
    timeout=9.0,
    max_tokens=768,
    source='evalplus/codegen.py (prompt.strip() + "\\n"), evalplus/provider/utility.py (EOS and those of direct '
    "completion), evalplus/provider/base.py (768 new tokens), evalplus/config.py (1.0 s, factor 4); the limit of a "
    "whole program is an inference from these",
)  # fmt: skip
_LM_EVAL_MATHS = MathsRules(
    shots=5,
    cut=("Question:", "</s>", "<|im_end|>"),
    metric="strict",
    max_tokens=256,
    too_long="cut",
    source="lm_eval/tasks/gsm8k/gsm8k.yaml 3.0; 256 is the engines' default max_gen_toks; both filters are reported, "
    "strict-match is the first",
)


def _lm_eval_choice(task: str) -> ChoiceRules:
    source = f"lm_eval/tasks/{task} 1.0: no num_fewshot, so none; acc is the metric listed first (or alone)"
    return ChoiceRules(shots=0, metric="acc", source=source)


def _foundry_choice(shots: int, candidates: str) -> ChoiceRules:
    source = (
        "mean raw accuracy of llm-foundry's Eval Gauntlet, which picks the lowest perplexity per token; the paper "
        f"does not state the shots: {shots} is an inference from scripts/eval/yamls/tasks_v0.2.yaml and tasks_v0.3.yaml"
        f" ({candidates})"
    )
    return ChoiceRules(shots=shots, metric="acc_token", source=source)


PROFILES: dict[str, Profile] = {
    "paper": Profile(
        "paper",
        code=_BIGCODE,
        maths=_LM_EVAL_MATHS,
        choice={
            "hellaswag": _foundry_choice(10, "0 and 10"),
            "arc_challenge": _foundry_choice(25, "3 and 25"),
            "winogrande": _foundry_choice(5, "5"),
            "mmlu": _foundry_choice(5, "5"),
        },
    ),
    "lm_eval": Profile(
        "lm_eval",
        code=_LM_EVAL_CODE,
        maths=_LM_EVAL_MATHS,
        choice={
            "hellaswag": _lm_eval_choice("hellaswag/hellaswag.yaml"),
            "arc_challenge": _lm_eval_choice("arc/arc_challenge.yaml"),
            "winogrande": _lm_eval_choice("winogrande/default.yaml"),
            "mmlu": _lm_eval_choice("mmlu/default/_default_template_yaml"),
        },
    ),
    "bigcode": Profile("bigcode", code=_BIGCODE),
    "evalplus": Profile("evalplus", code=_EVALPLUS),
}


def profile_of(name: str) -> Profile:
    """The convention of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in PROFILES:
        raise ValueError(f"profile={name!r}; expected one of {list(PROFILES)}")
    return PROFILES[name]


def safe_stops(cuts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Strings at which a generation may end for all conventions: each contains a cut of every one of them.

    So a text that ended there was over for each, and can be cut again under each. The shortest ones only.

    Args:
        cuts: the cut strings of each convention.

    >>> safe_stops([("\\nclass", "\\n#"), ("\\nclass ", "\\nfrom ")])
    ('\\nclass ',)
    """
    listed = list(cuts)
    safe = {c for own in listed for c in own if all(any(cut in c for cut in other) for other in listed)}
    return tuple(sorted(s for s in safe if not any(other in s for other in safe - {s})))


CODE_STOPS = safe_stops(p.code.cut for p in PROFILES.values() if p.code)
MATHS_STOPS = safe_stops(p.maths.cut for p in PROFILES.values() if p.maths)
