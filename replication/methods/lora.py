r"""LoRA through PEFT: W x + (alpha / r) B A x, B (out, r) zero, A (r, in) uniform in +-1/sqrt(in).

What the paper trained with and what users load: adapters are PEFT's own files. Which linears "all", "attention" and
"mlp" mean is decided here from the module tree, because PEFT's defaults are q and v only (pitfall 15). With "-nogate"
the MLP's gate stays as it is, as in the paper's first version.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from replication.config import LoRA
from replication.method import TARGETS as WORDS
from replication.methods.attached import Attached, trainable_parameters


def attach(model: PreTrainedModel, method: LoRA, *, seed: int, steps: int) -> Attached:
    """Freeze the model and add adapters, drawn from `seed`, to the linears of its blocks; a new head trains along."""
    del steps
    targets = target_modules(model, method.targets)
    torch.manual_seed(seed)
    # PEFT draws A from the global generator; the line above is the only place that sets it for that purpose.
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=method.rank,
            lora_alpha=method.alpha,  # type: ignore[arg-type]  # PEFT annotates int and computes with floats
            lora_dropout=method.dropout,
            target_modules=targets,
            bias="none",
            task_type=task_type(model),
            modules_to_save=head_modules(model) or None,
        ),
    )
    return Attached(wrapped, trainable_parameters(wrapped))


def task_type(model: torch.nn.Module) -> str | None:
    """What PEFT calls the model; None for speech, whose forward takes features and PEFT's own would take ids."""
    kinds = {"CausalLM": "CAUSAL_LM", "SequenceClassification": "SEQ_CLS"}
    return next((kind for word, kind in kinds.items() if type(model).__name__.endswith(f"For{word}")), None)


def head_modules(model: torch.nn.Module) -> list[str]:
    """Names of a classifier's own layers, which are new and so are trained by every method; none for other models."""
    if task_type(model) != "SEQ_CLS":
        return []
    body = type(model).base_model_prefix  # type: ignore[attr-defined]  # of every PreTrainedModel
    return [name for name, module in model.named_children() if name != body and list(module.parameters())]


def target_modules(model: torch.nn.Module, targets: str) -> list[str]:
    """Names of the linears that get an adapter: those of the blocks, never the embedding or the output layer.

    Linears named one by one ("q_proj+v_proj") are looked for by the end of their name.

    Raises:
        ValueError: no linear fits; the message lists those there are.
    """
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))
    ]
    if targets not in WORDS:
        return _named(linears, targets)
    part_of = {"all": "", "attention": "attn attention", "mlp": "mlp feed_forward"}[targets.removesuffix("-nogate")]
    words = part_of.split()
    chosen = [name for name in linears if not words or any(word in name for word in words)]
    if targets.endswith("-nogate"):
        gates = [name for name in chosen if name.split(".")[-1] == "gate_proj"]
        if not gates:
            raise ValueError(f"targets={targets!r} leaves gate_proj out, but no linear is called that: {chosen[:8]}")
        chosen = [name for name in chosen if name not in gates]
    if not chosen:
        raise ValueError(f"no linear of the model fits targets={targets!r}; its blocks have {linears[:8]}")
    return sorted({_end(name, set(linears) - set(chosen)) for name in chosen})


def _end(name: str, others: set[str]) -> str:
    """The end of a linear's name, two parts or more, that none of the others has.

    PEFT goes by ends, and BERT's `attention.output.dense` and `output.dense` share theirs.
    """
    parts = name.split(".")
    ends = (".".join(parts[-size:]) for size in range(2, len(parts)))
    return next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), name)


def _named(linears: list[str], targets: str) -> list[str]:
    wanted = targets.split("+")
    ends = {name.split(".")[-1] for name in linears}
    absent = [name for name in wanted if name not in ends]
    if absent:
        raise ValueError(f"no linear of the model is called {absent[0]!r}; its blocks have {sorted(ends)}")
    return sorted(wanted)
