"""What the Whisper side study compares, and the claims of its originals that it is asked.

W1 LoRA trains faster, W2 LoRA decodes slower, W3 LoRA writes about as well. Sizes of adapters are arithmetic, shown in
the figure and given no verdict. Standard library only.
"""

from __future__ import annotations

from experiments.comparisons import Claim, Question
from experiments.side import claim, part

STUDY = "whisper"
TEST, SPEED = "wer", "speed"
FULL, QV, ALL = "full", "lora-qv", "lora-all"

QUESTIONS: tuple[Question, ...] = (
    *(Question(f"whisper_step_saved_{arm}", arm, FULL, "run", "step_seconds", "saved") for arm in (QV, ALL)),
    *(Question(f"whisper_memory_saved_{arm}", arm, FULL, "run", "peak_memory_gb", "saved") for arm in (QV, ALL)),
    *(
        Question(f"whisper_lost_{way}_{arm}", arm, arm, SPEED, f"lost_{way}", "value")
        for way in ("unmerged", "merged")
        for arm in (QV, ALL)
    ),
    *(Question(f"whisper_wer_{arm}_less_full", arm, FULL, TEST, "wer") for arm in (QV, ALL)),
    *(Question(f"whisper_wer_base_less_{arm}", "base", arm, TEST, "wer") for arm in (FULL, QV, ALL)),
)
# A tenth of the time or memory of a step, which nobody would change methods for; the originals say "5x faster",
# "56 min against 456" and "under 8 GB against 24".
STEP = 0.1
# A twentieth of the speed: the spread of one model timed against itself here was .01; the original says 15 to 88.
DECODE = 0.05
# Two points of word error rate, four times the .5 points (36.14 and 35.64) that the original calls comparable.
WER = 0.02
_TUTORIAL = "Hugging Face, Fine-tune Whisper with LoRA and bitsandbytes (2023)"
_ARTICLE = "T. Cvetko, PEFT-LoRA vs full fine-tune on Whisper"


CLAIMS: tuple[Claim, ...] = (
    claim(
        "W1",
        "LoRA trains faster than full fine-tuning.",
        f"{_TUTORIAL}, '5x faster'; {_ARTICLE}, 56 and 456 minutes; uncontrolled: arms of other models (880k trained "
        "weights fit whisper-small, 74M whisper-base), batches, precisions and lengths; the tutorial ran no full arm",
        (
            part(
                "a step of the originals' LoRA",
                "At equal batch and precision a step of LoRA on queries and values takes less time.",
                f"whisper_step_saved_{QV}", "greater", STEP, "share of a step's time",
                "A step that takes as long, or longer.", trained=False,
            ),
            part(
                "a step of LoRA on all linears",
                "So does a step of LoRA on all linears.",
                f"whisper_step_saved_{ALL}", "greater", STEP, "share of a step's time",
                "A step that takes as long, or longer.", trained=False, counts=False,
            ),
            part(
                "memory",
                "LoRA on queries and values needs less memory at the same batch.",
                f"whisper_memory_saved_{QV}", "greater", STEP, "share of peak memory",
                "A peak as high, or higher.", trained=False, counts=False,
            ),
        ),
        study=STUDY,
    ),
    claim(
        "W2",
        "LoRA decodes slower than full fine-tuning.",
        f"{_ARTICLE}, 15 and 88 tokens a second; uncontrolled: models that differ in size, and an adapter that was not "
        "merged, perhaps over 8-bit weights",
        (
            part(
                "beside the weights",
                "With its adapter beside the weights, LoRA on queries and values writes fewer tokens a second.",
                f"whisper_lost_unmerged_{QV}", "greater", DECODE, "share of the base's speed",
                "A speed that is the base's.", trained=False,
            ),
            part(
                "merged",
                "Merged into the weights it still does: otherwise the cost is of where the adapter stands.",
                f"whisper_lost_merged_{QV}", "greater", DECODE, "share of the base's speed",
                "A speed that is the base's, to within the margin.", trained=False,
            ),
            part(
                "all linears beside the weights",
                "With adapters beside all linears it writes fewer tokens a second.",
                f"whisper_lost_unmerged_{ALL}", "greater", DECODE, "share of the base's speed",
                "A speed that is the base's.", trained=False, counts=False,
            ),
            part(
                "all linears merged",
                "Merged it still does.",
                f"whisper_lost_merged_{ALL}", "greater", DECODE, "share of the base's speed",
                "A speed that is the base's, to within the margin.", trained=False, counts=False,
            ),
        ),
        study=STUDY,
    ),
    claim(
        "W3",
        "LoRA's word error rate is comparable to full fine-tuning's.",
        f"{_TUTORIAL}, 'comparable performance', with no WER printed and no full arm; {_ARTICLE}, 36.14 and 35.64; "
        "uncontrolled: one seed, one rate each, other lengths, no zero-shot WER",
        (
            part(
                "the originals' LoRA",
                "LoRA on queries and values has the word error rate of full fine-tuning.",
                f"whisper_wer_{QV}_less_full", "equal", WER, "word error rate",
                "A difference beyond the margin, either way.",
            ),
            part(
                "LoRA on all linears",
                "LoRA on all linears has the word error rate of full fine-tuning.",
                f"whisper_wer_{ALL}_less_full", "equal", WER, "word error rate",
                "A difference beyond the margin, either way.", counts=False,
            ),
            part(
                "better than untuned",
                "LoRA on queries and values has a lower word error rate than the model before tuning.",
                f"whisper_wer_base_less_{QV}", "greater", WER, "word error rate",
                "A word error rate no lower than without tuning.", counts=False,
            ),
        ),
        study=STUDY,
    ),
)  # fmt: skip
