"""The weights of a finished checkpoint, in fp32.

Merging adds the fp32 product to the fp32 weight once; a merge in bf16 rounds a small change away (pitfall 21).
"""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from replication.models import load_model, naming_damage
from replication.runs import is_adapter, retrain


def load_merged(base: str | Path, checkpoint: Path, *, mend: str | None = None) -> PreTrainedModel:
    """The tuned model of a checkpoint in fp32; an adapter is merged into a fresh copy of the base.

    `mend` is the advice where its files are damaged; without one, to train the run again.
    """
    mend = mend or retrain(checkpoint)
    if not is_adapter(checkpoint):
        return load_model(checkpoint, mend=mend)
    with naming_damage(checkpoint, mend=mend):
        wrapped = PeftModel.from_pretrained(load_model(base), str(checkpoint))
    return wrapped.merge_and_unload(safe_merge=True)
