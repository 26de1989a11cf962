"""The weights of a finished checkpoint, in fp32.

Merging adds the fp32 product to the fp32 weight once; a merge in bf16 rounds a small change away (pitfall 21). What an
adapter's folder holds is told by its `peft_type`: the types of this project are read here, all others by PEFT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from replication.methods import part, s2lora
from replication.methods.part import Part
from replication.models import LANGUAGE, Form, Weights, load_model, naming_damage
from replication.runs import is_adapter, retrain

OWN: dict[str, Callable[[PreTrainedModel, Path], Part]] = {part.TYPE: part.load, s2lora.TYPE: s2lora.load}


def load_weights(weights: Weights, *, mend: str | None = None) -> PreTrainedModel:
    """The model whose answers are asked for, in fp32: the base, or what was tuned from it with its adapter merged."""
    if weights.tuned is None:
        return load_model(weights.base, mend=mend, form=weights.form)
    return load_merged(weights.base, weights.tuned, mend=mend, form=weights.form)


def load_merged(
    base: str | Path, checkpoint: Path, *, mend: str | None = None, form: Form = LANGUAGE
) -> PreTrainedModel:
    """The tuned model of a checkpoint in fp32; an adapter is merged into a fresh, whole copy of the base.

    `mend` is the advice where its files are damaged; without one, to train the run again.
    """
    mend, form = mend or retrain(checkpoint), replace(form, bits=None)
    if not is_adapter(checkpoint):
        return load_model(checkpoint, mend=mend, form=form)
    with naming_damage(checkpoint, mend=mend):
        wrapped = load_unmerged(base, checkpoint, form=form)
    return wrapped.merge_and_unload(safe_merge=True)


def load_unmerged(base: str | Path, checkpoint: Path, *, form: Form = LANGUAGE) -> PeftModel | Part:
    """The tuned model of an adapter's folder in fp32, its products beside the base's weights (`form`: in 8 bits)."""
    model = load_model(base, form=form)
    own = OWN.get(part.settings(checkpoint)["peft_type"])
    return PeftModel.from_pretrained(model, str(checkpoint)) if own is None else own(model, checkpoint)
