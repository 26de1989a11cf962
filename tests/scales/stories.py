"""A scale of a user's own: a real pretrained model of 260k parameters on real code, maths and stories.

    python -m experiments run study --scale tests/scales/stories.py

The data lie beside the checkout, in ../shared/data.
"""

from replication.config import CPT, IFT, Cosine, Source, Trapezoid
from replication.scale import Scale, Setting
from replication.specs import HeldOut, Maths

DATA = "../shared/data"
QUESTION = "Question: {prompt}\nAnswer: "
CODE = f"{DATA}/corpora/code_thealgorithms/thealgorithms_python.jsonl.gz"
GSM8K = (("prompt", "question"), ("response", "answer"))

SCALE = Scale(
    name="stories",
    model=f"{DATA}/models/stories260K",
    ranks=(4,),
    workers=2,
    threads=1,
    settings=(
        (
            "cpt_code",
            Setting(
                regime="cpt",
                domain="code",
                title="Python files on stories260K",
                task=CPT(Source(CODE, part="train")),
                lengths=(16_384, 32_768),
                rates=(("full", 1e-3), ("r4", 4e-3)),
                schedule=Trapezoid(warmup=2),
                global_batch=8,
                micro_batch=8,
                seq_len=256,
                target="code_loss",
                target_loss="code_loss",
            ),
        ),
        (
            "ift_math",
            Setting(
                regime="ift",
                domain="math",
                title="GSM8K on stories260K",
                task=IFT(Source(f"{DATA}/benchmarks/gsm8k/train.jsonl", columns=GSM8K, limit=100), QUESTION),
                lengths=(1, 2),
                rates=(("full", 1e-3), ("r4", 4e-3)),
                schedule=Cosine(),
                global_batch=4,
                micro_batch=4,
                seq_len=512,
                target="gsm8k",
                target_loss="gsm8k_loss",
            ),
        ),
    ),
    evals=(
        HeldOut("code_loss", Source(CODE, part="heldout", limit=8), seq_len=256),
        HeldOut("stories_loss", Source(f"{DATA}/corpora/tinystories_b/tinystories_b.txt"), seq_len=256),
        HeldOut(
            "gsm8k_loss",
            Source(f"{DATA}/benchmarks/gsm8k/test.jsonl", columns=GSM8K, limit=40),
            seq_len=512,
            template=QUESTION,
        ),
        Maths(
            "gsm8k",
            Source(f"{DATA}/benchmarks/gsm8k/test.jsonl", limit=8),
            max_tokens=32,
            template="Question: {question}\nAnswer: ",
        ),
    ),
    forgetting=(),
    source_loss="stories_loss",
)
