"""What the side study of throughput compares, and the claims of Chronicals (arXiv 2601.02609) that it is asked.

X1 packing, X2 torch.compile, X3 the loss without logits, X4 a fused optimiser, X5 LoRA+, X6 all together. A share of a
step's time that is saved; s means 1 / (1 - s) times as fast. Every step has the same documents, so tokens per second,
with padding or without, say the same. Standard library only.
"""

from __future__ import annotations

from experiments.claim_sizes import FORGETTING, LEARNING, NATS
from experiments.comparisons import Claim, Part, Question
from experiments.side import claim, part

# A twentieth of a step: what a machine shared by nobody still varies by from run to run. Our choice.
SAVED = 0.05
# Of one trajectory, nats: a quarter of what counts as a difference. Rounding stays far below in fp32 (3e-7 was seen).
SAME = NATS / 4
WORDS = {"full": "full fine-tuning", "lora": "LoRA"}
CHANGED = ("trimmed", "packed", "compile", "fused", "loop", "cut", "all")
# Of the README and figures 8 and 21: 3.51 and 4.10 times as fast.
TIMES = {"full": 3.51, "lora": 4.10}


def _timed() -> tuple[Question, ...]:
    made = []
    for method in WORDS:
        for word in CHANGED:
            arm = f"{method}-{word}"
            made.append(Question(f"saved_{method}_{word}", arm, method, "run", "step_seconds", "saved"))
            made.append(Question(f"loss_{method}_{word}", arm, method, "run", "final_loss"))
        made.append(
            Question(f"saved_{method}_beyond", f"{method}-packed", f"{method}-trimmed", "run", "step_seconds", "saved")
        )
        made.append(Question(f"memory_{method}_cut", f"{method}-cut", method, "run", "peak_memory_gb", "saved"))
        made.append(Question(f"whole_{method}_compile", f"{method}-compile", method, "run", "seconds", "saved"))
    return tuple(made)


_KEPT = {"what_next": "acc", "facts": "acc", "which": "acc"}
QUESTIONS: tuple[Question, ...] = (
    *_timed(),
    Question("plus_step", "lora-plus", "lora", "run", "step_seconds", "saved"),
    Question("plus_sooner", "lora", "lora-plus", "run", "final_loss"),
    Question("plus_target_loss", "learn-lora", "learn-lora-plus", "ift_code_loss", "nats_per_token"),
    Question("plus_learns", "learn-lora-plus", "learn-lora", "compose", "pass@1"),
    *(Question(f"plus_keeps_{name}", "learn-lora-plus", "learn-lora", name, m) for name, m in _KEPT.items()),
    Question("plus_keeps_source", "learn-lora", "learn-lora-plus", "source_loss", "nats_per_token"),
)


def _saves(word: str, what: str) -> tuple[Part, ...]:
    """For both methods: the step is shorter, and the loss is the same."""
    made: list[Part] = []
    for method, name in WORDS.items():
        made.append(
            part(
                f"{name}: faster", f"{what} shortens a step of {name}.", f"saved_{method}_{word}", "greater",
                SAVED, "share of a step's time", "A step as long.", trained=False,
            )
        )  # fmt: skip
        made.append(
            part(
                f"{name}: same loss", f"{name[0].upper()}{name[1:]} ends at the loss of the reference.",
                f"loss_{method}_{word}", "equal", SAME, "nats per token", "Another loss after the same steps.",
                trained=False,
            )
        )  # fmt: skip
    return tuple(made)


X1 = claim(
    "X1",
    "Sequence packing makes training faster.",
    "Chronicals, README. Uncontrolled: counts pad tokens as trained ones; packing is off in its own headline runs",
    (
        *_saves("packed", "Packing"),
        *(
            part(
                f"{name}: beyond trimming", "Packing is faster than rows as long as the longest document.",
                f"saved_{method}_beyond", "greater", SAVED, "share of a step's time", "Padding to the longest as fast.",
                trained=False, counts=False,
            )
            for method, name in WORDS.items()
        ),
    ),
    study="throughput",
)  # fmt: skip

X2 = claim(
    "X2",
    "torch.compile makes training faster.",
    "Chronicals, figure 8 (11,508 to 24,419 tokens/s). Uncontrolled: suppress_errors hides what was never compiled",
    (
        *_saves("compile", "torch.compile"),
        *(
            part(
                f"{name}: compiling included", "The whole short run is faster too, the time to compile included.",
                f"whole_{method}_compile", "greater", SAVED, "share of a run's time",
                "Compiling costing what it saves.", trained=False, counts=False,
            )
            for method, name in WORDS.items()
        ),
    ),
    study="throughput",
)  # fmt: skip

X3 = claim(
    "X3",
    "Cut cross-entropy makes training faster.",
    "Chronicals, README. Uncontrolled: no benchmark calls it; its gradient is wrong where its loss is right",
    (
        *_saves("cut", "The loss without logits"),
        *(
            part(
                f"{name}: memory", "The loss without logits lowers the peak of memory.", f"memory_{method}_cut",
                "greater", SAVED, "share of the peak", "A peak as high.", trained=False, counts=False,
            )
            for method, name in WORDS.items()
        ),
    ),
    study="throughput",
)  # fmt: skip

X4 = claim(
    "X4",
    "A fused optimiser makes training faster.",
    "Chronicals, README. Uncontrolled: compared with 8-bit moments, not with the same optimiser stepped otherwise",
    _saves("fused", "AdamW in one kernel, against lists of tensors,"),
    study="throughput",
)

X5 = claim(
    "X5",
    "LoRA+ converges faster than LoRA at no cost.",
    "Chronicals, README (up to 4x); Hayou et al., ICML 2024 (2x). Uncontrolled: names compared in the wrong case put "
    "every adapter in one group at one rate, so LoRA+ was off; no rate was tuned",
    (
        part(
            "sooner", "At the rates tuned for the whole training LoRA+ ends the timed steps at a lower loss.",
            "plus_sooner", "greater", NATS, "nats per token", "A loss as high.",
        ),
        part(
            "held out", "And at a lower held-out loss after the main study's training.", "plus_target_loss", "greater",
            NATS, "nats per token", "A held-out loss as high.",
        ),
        part("learns", "It learns the target as well.", "plus_learns", "not less", LEARNING, "score", "A lower score."),
        *(
            part(
                f"keeps {name}", f"It forgets no more of {name}.", f"plus_keeps_{name}", "not less", FORGETTING,
                "score", "A lower score.",
            )
            for name in _KEPT
        ),
        part(
            "keeps the source text", "Its loss on what the base was trained on is no higher.", "plus_keeps_source",
            "not less", NATS, "nats per token", "A higher loss.",
        ),
        part(
            "step", "Its steps take as long.", "plus_step", "equal", SAVED, "share of a step's time",
            "Longer or shorter steps.", trained=False,
        ),
    ),
    study="throughput",
)  # fmt: skip

X6 = claim(
    "X6",
    "All together train 3.5 times as fast in full, and LoRA 4.1 times.",
    "Chronicals, abstract (against Unsloth, A100). Uncontrolled: recomputing and 8-bit moments on the other side only, "
    "pad tokens counted, own kernels never called; here all of it against padding, on the same steps",
    tuple(
        part(
            f"{name}: {TIMES[method]:g} times", f"{name[0].upper()}{name[1:]} saves what {TIMES[method]:g} times the "
            "speed saves.", f"saved_{method}_all", "not less", SAVED, "share of a step's time", "Saving less.",
            reference=1 - 1 / TIMES[method], trained=False,
        )
        for method, name in WORDS.items()
    )
    + _saves("all", "All together"),
    study="throughput",
)  # fmt: skip

CLAIMS: tuple[Claim, ...] = (X1, X2, X3, X4, X5, X6)
