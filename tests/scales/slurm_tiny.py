"""A scale for the tests of the cluster's scripts: the pocket base, runs of seconds, long enough to interrupt.

cpt_code    two ranks: a trunk of some seconds and its two branches
ift_code    two ranks, two numbers of epochs: four grid points
"""

from replication.config import CPT, IFT, Cosine, Source, Trapezoid
from replication.scale import Scale, Setting
from replication.specs import HeldOut


def _pocket(function: str, limit: int) -> Source:
    return Source(f"python:replication.pocket.{function}", limit=limit)


RATES = (("full", 6e-4), ("r1", 8e-3), ("r4", 4e-3))
QUESTION = "Instruction: {prompt}\nResponse:\n"
CODE = "cpt_code_loss"

SCALE = Scale(
    name="slurm_tiny",
    model="replication/pocket/base",
    ranks=(1, 4),
    dropout=0.05,
    workers=1,
    threads=1,
    settings=(
        (
            "cpt_code",
            Setting(
                regime="cpt",
                domain="code",
                title="Code, continued",
                task=CPT(_pocket("code:cpt_documents", 200)),
                lengths=(20 * 8 * 128, 50 * 8 * 128),
                rates=RATES,
                schedule=Trapezoid(warmup=2),
                global_batch=8,
                micro_batch=2,
                seq_len=128,
                target=CODE,
                target_loss=CODE,
            ),
        ),
        (
            "ift_code",
            Setting(
                regime="ift",
                domain="code",
                title="Code, instructed",
                task=IFT(_pocket("code:ift_rows", 60), QUESTION),
                lengths=(1, 2),
                rates=RATES,
                schedule=Cosine(),
                global_batch=4,
                micro_batch=2,
                seq_len=128,
                target=CODE,
                target_loss=CODE,
            ),
        ),
    ),
    evals=(
        HeldOut("source_loss", _pocket("source:heldout_documents", 20), seq_len=128),
        HeldOut(CODE, _pocket("code:heldout_cpt_documents", 20), seq_len=128),
    ),
    forgetting=(),
    source_loss="source_loss",
)
