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
from replication.methods.attached import Attached, trainable_parameters


def attach(model: PreTrainedModel, method: LoRA, *, seed: int) -> Attached:
    """Freeze the model and add adapters, drawn from `seed`, to the linears of its blocks."""
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
            task_type="CAUSAL_LM",
        ),
    )
    return Attached(wrapped, trainable_parameters(wrapped))


def target_modules(model: torch.nn.Module, targets: str) -> list[str]:
    """Names of the linears that get an adapter: those of the blocks, never the embedding or the output layer.

    Raises:
        ValueError: no linear fits; the message lists those there are.
    """
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))
    ]
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
    return sorted({".".join(name.split(".")[-2:]) for name in chosen})
