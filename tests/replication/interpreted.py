"""Relative errors of the fused path, its Triton kernels run by Triton's interpreter on a CPU.

A process of its own: TRITON_INTERPRET must be set before triton is imported. Prints one JSON object.
"""

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from transformers import LlamaConfig, LlamaForCausalLM
from triton.runtime import interpreter

from replication import kernels
from replication.tasks import stream


def mend_interpreter() -> None:
    """Plain floats become scalars of fp32, as a real launch makes them, and libdevice's functions become Triton's."""
    plain = interpreter._implicit_cvt

    def convert(arg: object) -> object:
        if isinstance(arg, float):
            return tl.tensor(interpreter.TensorHandle(np.array([arg], np.float32), tl.float32), tl.float32)
        return plain(arg)

    interpreter._implicit_cvt = convert
    import liger_kernel.ops.rms_norm as rms_norm

    # Looked up when called: the interpreter puts its own functions in place while a kernel runs.
    rms_norm.rsqrt = lambda x: tl.math.rsqrt(x)


def error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours.double() - reference.double()).norm() / reference.double().norm())


def model_errors() -> dict[str, float]:
    """A two-layer Llama on packed rows with every fused part, against itself without."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids = torch.randint(40, (2, 16))
    batch = {
        "input_ids": ids,
        "position_ids": torch.cat([torch.arange(7), torch.arange(9)]).expand(2, 16).contiguous(),
        "labels": torch.where(ids < 10, -100, ids),
    }
    found = []
    for fused in (False, True):
        if fused:
            kernels.use_liger(model)
            kernels.sum_loss_inside(model)
        loss, _ = stream.loss(model, batch)
        loss.backward()
        found.append({"loss": loss.detach()} | {n: p.grad.clone() for n, p in model.named_parameters()})
        model.zero_grad()
    return {name: error(found[1][name], found[0][name]) for name in found[0]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    mend_interpreter()
    print(json.dumps(model_errors()))
