"""Whisper: does LoRA train faster than full fine-tuning, decode slower, and write as well?

Question. Two articles of 2023 tune Whisper with LoRA on the query and value projections (rank 32) and say: five times
faster, a checkpoint of 60 MB in place of 6 GB, a comparable word error rate (36.14 and 35.64), and slower decoding (15
and 88 tokens a second).

Hypothesis. A step of LoRA saves the optimiser and part of the backward pass, not most of the time; the adapter slows
decoding only while it stands beside the weights; on queries and values alone it learns less than full fine-tuning.

What the originals left uncontrolled. No full arm at all (the tutorial), or arms of different models: the 880k weights
trained fit whisper-small at rank 8, the 74M whisper-base, and the large-v2 they name would train 15.7M. Batch, rate,
length and precision differ between arms; no word error rate of the untuned model; one seed; no merged decoding.

Here. Every arm has the same model, clips, order and length, and a rate of its own from a sweep by validation loss with
seeds of its own. Arms: full, LoRA as the originals' (queries and values, rank 8 as in the one arm that can be
identified), LoRA on all linears; beside them the untuned model. Decoding is timed merged, unmerged and untuned, in
turns. At pocket a Whisper of .3M weights that three speakers of digits taught is adapted to two others; a clip holds
two to four digits. Real recordings where they are at hand, else synthetic voices, under other names. The largest batch
that fits into a memory is measured apart (`replication/benchmark_fit.py`). On a GPU there is one arm more, the
tutorial's base in 8 bits, at the rate of the arm it repeats; its word errors are of the adapter merged into the whole
base, its "unmerged" speed that over 8 bits.

Cost. Minutes: 1 a seed at pocket on one core, and 1 for the model, once; the sweep 4. At desk 3 GPU-hours a seed, an
estimate: 5,000 clips x 3 epochs x 3 arms of whisper-small at the tutorial's pace.

    python -m experiments run whisper [--scale desk] [--seeds 3]
    python -m experiments run learning_rates --scale whisper
"""

from __future__ import annotations

from dataclasses import replace

from experiments import claims_whisper
from experiments.claims_whisper import ALL, FULL, QV, SPEED, STUDY, TEST
from experiments.side import fleurs, of_settings, on_recordings
from replication.config import ASR, Cosine, Full, LoRA, Run, Source
from replication.pocket.recordings import recordings
from replication.scale import Scale, Setting
from replication.specs import DecodeSpeed, Eval, Words

VALIDATION = "validation"
METHODS = (
    (FULL, Full()),
    (QV, LoRA(8, alpha=16, targets="q_proj+v_proj", dropout=0.0)),
    (ALL, LoRA(8, alpha=16, dropout=0.0)),
)
# The lowest validation loss of each arm's sweep (experiments/results/whisper).
RATES = ((FULL, 2e-3), (QV, 1.6e-2), (ALL, 1.6e-2))
SWEEP = (
    (f"ift/{FULL}", (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)),
    (f"ift/{QV}", (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)),
    (f"ift/{ALL}", (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)),
)
# Provisional until the sweep was run there: the tutorial's 1e-3 for LoRA, the usual 1e-5 for full fine-tuning.
DESK_RATES = ((FULL, 1e-5), (QV, 1e-3), (ALL, 1e-3))
DESK_SWEEP = (
    (f"ift/{FULL}", (2.5e-6, 5e-6, 1e-5, 2e-5, 4e-5)),
    (f"ift/{QV}", (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)),
    (f"ift/{ALL}", (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)),
)


def _digits(kind: str, what: str) -> Source:
    return Source(f"python:replication.pocket.speech:{kind}_{what}")


def _pocket(kind: str) -> Scale:
    setting = Setting(
        regime="ift",
        domain="speech",
        title="Spoken digits",
        task=ASR(_digits(kind, "train")),
        lengths=(4.0,),
        rates=RATES,
        schedule=Cosine(),
        global_batch=16,
        micro_batch=16,
        seq_len=8,  # start, no-timestamps, four words
        target=TEST,
        target_loss=VALIDATION,
        methods=METHODS,
        also=(SPEED,),
    )
    evals: tuple[Eval, ...] = (
        Words(TEST, _digits(kind, "test"), max_tokens=8, batch=50),
        Words(VALIDATION, _digits(kind, "valid"), max_tokens=8, batch=50),
        DecodeSpeed(SPEED, _digits(kind, "test"), tokens=24, batch=8, turns=7),
    )
    return Scale(
        name=STUDY,
        side=STUDY,
        model=f"python:replication.pocket.speech:{kind}_base",
        settings=((STUDY, setting),),
        evals=evals,
        forgetting=(),
        source_loss="",
        ranks=(),
        optim="adamw",
        workers=1,  # one run at a time: its step is timed
        threads=1,
        sweep_rates=SWEEP,
    )


def desk(name: str, *, model: str, train: Source, validation: Source, test: Source, language: str | None) -> Scale:
    """The study of a real Whisper on real recordings, each a hub id or a local folder; None for an English model."""
    pocket = _pocket("synthetic")
    # What Whisper's decoder reads is 448; a Devanagari sentence takes 50 to 300.
    setting = on_recordings(pocket.settings[0][1], train, language, rates=DESK_RATES, seq_len=448)
    evals: tuple[Eval, ...] = (
        *(
            Words(name, source, language=language, max_tokens=440, too_long="cut")
            for name, source in ((TEST, test), (VALIDATION, validation))
        ),
        DecodeSpeed(SPEED, test, language=language, tokens=128),
    )
    return replace(
        pocket,
        name=name,
        model=model,
        settings=((STUDY, setting),),
        evals=evals,
        threads=None,
        precision="bf16",
        zero_stage=1,
        gpus=1,
        sweep_rates=DESK_SWEEP,
    )


SCALES: dict[str, Scale] = {
    "pocket": _pocket("recorded" if recordings() else "synthetic"),
    # Common Voice, which the originals used, has left the hub.
    "desk": desk(
        f"{STUDY}-desk", model="openai/whisper-small", language="hindi",
        **{split: fleurs("hi_in", split) for split in ("train", "validation", "test")},
    ),
}  # fmt: skip
QUESTIONS, CLAIMS = claims_whisper.QUESTIONS, claims_whisper.CLAIMS


def arms(scale: Scale, seed: int) -> dict[str, Run]:
    """Runs by label; on a GPU LoRA on queries and values over a base in 8 bits too."""
    found = of_settings(scale, seed)
    return found | ({f"{QV}-int8": replace(found[QV], base_bits=8)} if scale.gpus else {})
