"""Hyperparameters of the paper (arXiv 2405.09673 v2) as data, each with where it stands and how sure that is.

The second half of the paper's numbers; its scores are in `paper.py`. Nothing else in the project types a number of the
paper: `paper_scale.py` builds the scales from what is here.

    stated     printed in the paper, in the README of its authors' repository or in a file they published
    derived    arithmetic on what is printed
    inferred   not published: what the defaults of the authors' framework or the arithmetic suggest
    memory     recollected from a dataset card or another publication, not looked up again: check before relying on it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from experiments.paper import Setting

Standing = Literal["stated", "derived", "inferred", "memory"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Fact(Generic[Value]):
    """One value of the paper, where it stands, and how sure that is."""

    value: Value
    source: str
    standing: Standing = "stated"


APPENDIX = "v2 Appendix A; README of danbider/lora-tradeoffs"


def _told(value: Value, source: str = APPENDIX) -> Fact[Value]:
    return Fact(value, source)


# ---------------------------------------------------------------- what all settings share

BASE = _told("meta-llama/Llama-2-7b-hf")
TOKENIZER = {"cpt": _told("meta-llama/Llama-2-7b-hf"), "ift": _told("meta-llama/Llama-2-7b-chat-hf")}
OPTIMIZER = _told("decoupled_lionw")
BETAS = _told((0.9, 0.95))
PRECISION = _told("amp_bf16")
CLIPPING = _told(1.0)
GPUS = _told(32)
RANKS = _told((16, 64, 256), "v2 section 4.1")
ALPHA_PER_RANK = _told(2, "v2 section 4.1 and Appendix B.2: alpha = 2 r")
DROPOUT = _told(0.05)
MODULES = _told(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
# r (in + out) over the seven linears of the 32 blocks; the sizes of the published adapters agree (bf16).
TRAINABLE = Fact({16: 39_976_960, 64: 159_907_840, 256: 639_631_360}, "shapes of Llama-2-7B", "derived")
# DecoupledLionW shrinks a weight by (rate / peak rate) x decay a step, whatever the rate (llm-foundry optim/lion.py).
DECAY_IS_DECOUPLED = _told(True, "llm-foundry llmfoundry/optim/lion.py")

# inv_sqrt_with_warmup; alpha_f_decay of 1 makes it constant between warm-up and cooldown.
CPT_WARMUP_BATCHES = _told(1000)
CPT_SCALE_BATCHES = _told(1000)
CPT_COOLDOWN_BATCHES = _told(5086)
CPT_COOLDOWN_SHARE = _told(0.2, "v2 section 4.1: the last 20 % of each duration; 5,086 of 25,431 batches")
CPT_ALPHA_F_DECAY = _told(1.0)
CPT_ALPHA_F_COOLDOWN = _told(0.0)
# cosine_with_warmup
IFT_WARMUP_SHARE = _told(0.1)
IFT_ALPHA_F = _told(0.01)

SWEEP_RANGE = _told((1e-5, 5e-4), "v2 section 4.7 (d): the range recommended for sweeps")
SWEEP_EPOCHS = _told(2, "v2 Figures S1 and S2")
# The grids of Figures S1 to S3 appear only as pictures; 5e-5, 2e-4 and 5e-4 are named as best in Appendix B.
SWEEP_RATES = Fact((1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4), "points of our choice over the recommended range", "inferred")

# ---------------------------------------------------------------- ablations (`ablations.py` makes their grids)

ALPHAS = _told((32, 256, 512), "v2 Figure S3a: r256, Magicoder, 4 epochs")
# S3b compares two alphas on OpenWebMath, one of them 2 r; the other is not in our sources.
CPT_ALPHAS = Fact((32, 512), "v2 Figure S3b; 32 is the first version's", "inferred")
WEIGHT_DECAYS = _told((5e-5, 1e-4), "v2 Figure 4: full fine-tuning on Magicoder")
ATTENTION_DROPOUTS = _told((0.05, 0.1), "v2 Figure 4: full fine-tuning on Magicoder")
REGULARISED_RATE = Fact(5e-5, "not stated; the rate of full fine-tuning on Magicoder", "inferred")
MODULE_EPOCHS: Fact[tuple[float, ...]] = _told((1, 2, 4), "v2 Figure 7")
# Appendix B: the sweeps of Figures S1 and S2 are of the first version's kind.
OLD_SWEEP_RANK = _told(64, "v2 Appendix B")
OLD_SWEEP_ALPHA = _told(32, "v2 Appendix B: alpha of 32, without W_gate")

# ---------------------------------------------------------------- the settings


@dataclass(frozen=True)
class Hyper:
    """What one setting adds. `columns` renames (ours, theirs); `durations` in tokens or epochs; rates by arm."""

    dataset: Fact[str]
    columns: Fact[tuple[tuple[str, str], ...]]
    documents: Fact[int]
    tokens: Fact[float]
    durations: Fact[tuple[float, ...]]
    seq_len: Fact[int]
    global_batch: Fact[int]
    micro_batch: Fact[int]
    rates: dict[str, Fact[float]]
    weight_decay: Fact[float]
    template: Fact[str] | None = None
    per_sequence: Fact[int] | None = None


_CPT_TOKENS: Fact[tuple[float, ...]] = _told(
    (0.25e9, 0.5e9, 1e9, 2e9, 4e9, 8e9, 16e9, 20e9), "v2 section 4.1, Tables S1 to S4"
)
_EPOCHS: Fact[tuple[float, ...]] = _told((1.0, 2.0, 4.0, 8.0, 16.0), "v2 section 4.1, Tables S5 to S8")
_ALPACA = Fact(
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n",
    "not published; PROMPT_FORMAT of dolly_preprocessing_function in llm-foundry data/finetuning/tasks.py",
    "inferred",
)


def _rates(full: float, low: float, high: float, *, full_source: str = APPENDIX) -> dict[str, Fact[float]]:
    """Rates of full fine-tuning, of r16 and r64, and of r256."""
    return {"full": _told(full, full_source), "r16": _told(low), "r64": _told(low), "r256": _told(high)}


HYPER: dict[Setting, Hyper] = {
    "cpt_code": Hyper(
        # The Python subset is a folder of the repository.
        dataset=_told("bigcode/starcoderdata/python"),
        columns=Fact((("text", "content"),), "dataset card", "memory"),
        documents=Fact(12_866_649, "dataset card, all Python files; the paper's subsample is not published", "memory"),
        tokens=_told(20e9),
        durations=_CPT_TOKENS,
        seq_len=_told(4096),
        global_batch=_told(192),
        micro_batch=_told(6),
        # The same for LoRA and full fine-tuning: printed so, and unlike everywhere else in the paper.
        rates=_rates(1e-5, 1e-5, 1e-5),
        weight_decay=_told(1e-6),
    ),
    "cpt_math": Hyper(
        dataset=_told("open-web-math/open-web-math"),
        columns=Fact((), "dataset card: the column is called text", "memory"),
        documents=Fact(6_315_233, "dataset card", "memory"),
        # Repeated beyond that, to 20B.
        tokens=_told(14.7e9, "v2 section 3 and Appendix A"),
        durations=_CPT_TOKENS,
        seq_len=_told(4096),
        global_batch=_told(192),
        micro_batch=_told(6),
        rates=_rates(1e-5, 4e-5, 4e-5),
        weight_decay=_told(0.0),
    ),
    "ift_code": Hyper(
        dataset=_told("ise-uiuc/Magicoder-Evol-Instruct-110K"),
        columns=Fact((("prompt", "instruction"),), "dataset card", "memory"),
        documents=Fact(111_183, "dataset card", "memory"),
        tokens=_told(72.97e6, "v2 section 3"),
        durations=_EPOCHS,
        seq_len=_told(4096),
        global_batch=_told(192),
        micro_batch=_told(6),
        rates=_rates(5e-5, 2e-4, 1e-4, full_source="README of danbider/lora-tradeoffs; missing in Appendix A"),
        weight_decay=_told(0.0),
        template=_ALPACA,
        per_sequence=Fact(3, "README: 193 batches an epoch; 111,183 / (193 x 192) = 3.000", "derived"),
    ),
    "ift_math": Hyper(
        dataset=_told("meta-math/MetaMathQA"),
        columns=Fact((("prompt", "query"),), "dataset card", "memory"),
        documents=_told(395_000, "v2 section 3: 395K examples"),
        tokens=Fact(103e6, "README: 1.648B tokens in 16 epochs", "derived"),
        durations=_EPOCHS,
        seq_len=_told(1024),
        global_batch=_told(768),
        micro_batch=_told(24),
        rates=_rates(1e-5, 1e-4, 5e-5),
        weight_decay=_told(0.0),
        template=_ALPACA,
        per_sequence=Fact(1, "not published; a shorter sequence and a larger batch than elsewhere", "inferred"),
    ),
    "ift_mix": Hyper(
        dataset=_told("allenai/tulu-v2-sft-mixture", "v2 section 4.4 and Appendix C"),
        columns=Fact((), "conversations in the column `messages`: `experiments.tulu` makes rows of them", "memory"),
        documents=Fact(326_154, "dataset card; the paper says about 326k", "memory"),
        tokens=Fact(210e6, "about 650 tokens a conversation, as Magicoder's: an estimate for `plan`", "inferred"),
        # Epochs of one run, scored without a cooldown of their own.
        durations=_told((2.0, 4.0, 6.0), "v2 Appendix C, Tables S10 to S13"),
        seq_len=_told(4096),
        global_batch=_told(192),
        micro_batch=_told(6),
        rates=_rates(5e-6, 1e-4, 1e-4),
        weight_decay=_told(0.0),
        # `experiments.tulu` writes the turns with the tags of the Tulu 2 models.
        template=Fact("{prompt}", "not published; the format of allenai/open-instruct", "inferred"),
        per_sequence=Fact(3, "not published; as for Magicoder, the other setting of 4,096 tokens", "inferred"),
    ),
}

# ---------------------------------------------------------------- the first version (arXiv v1, 15 May 2024)

V1 = "v1 through third parties (mirrors of its sections, D. Han's critique)"
V1_RANKS = _told((16, 256), V1)
V1_TARGETS = _told(("attention", "mlp-nogate", "all-nogate"), V1 + ": MLP and All without W_gate")
# Maths used 2 r throughout. Code used 32 at r256; at r16 the two rules agree.
V1_CODE_ALPHA = _told(32, V1)
V1_MATH_TOKENS = Fact(
    (0.25e9, 0.5e9, 1e9, 2e9, 4e9, 8.6e9), V1 + ": 8.6B is the longest; the shorter are v2's", "inferred"
)
# .263 of full fine-tuning is v2's score at 20B.
V1_CODE_TOKENS = Fact(_CPT_TOKENS.value, "v1's best score of full fine-tuning is v2's at 20B", "inferred")
V1_RATES = Fact("those of v2, of r16 for r16 and of r256 for r256", "not in our sources", "inferred")
