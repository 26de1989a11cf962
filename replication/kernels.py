r"""The fused path of a step: the same mathematics in fewer passes over memory.

`apply` changes one model, never a class, so that a reference model may live beside it in the same process:

    RMSNorm, rotary embedding, SwiGLU     liger-kernel's Triton kernels (CUDA): kernels "liger", "fused"
    output layer and cross-entropy        `summed_cross_entropy`, which holds the logits of one chunk of tokens only,
                                          on a CPU too: kernels "cut", "fused"
    every block                           torch.compile, which fuses what lies between the matrix products: `compile`

With h (N, D) the hidden states, W (V, D) the output layer and y the labels that count, the summed loss has gradients

    P = softmax(h W^T) - onehot(y)        dL/dh = P W        dL/dW = P^T h

so that each chunk's P is made, used for both products and dropped. Peak memory of the logits falls from N V to
`CHUNK` elements; until the backward pass dL/dh is kept and, where the output layer is trained, dL/dW, both in fp32.
Positions without a label are not computed at all, which halves the output layer's work on many instructions.

Why not a packaged kernel for the loss: cut-cross-entropy 25.1.1, the newest in the package index, adds dL/dh up over
blocks of the vocabulary in bf16, refuses fp32, takes its locks in any order, so that no step can be repeated, and
lacks its repository's "cce_exact". Its order of sums, emulated with random weights (D 64), against fp64:

    relative error of dL/dh in bf16        V 32,768    V 151,936
    as the packaged kernel sums               4.4 %       10.7 %
    plain logits                              0.20 %       0.19 %
    here                                      0.17 %       0.17 %

Here every product is summed in fp32 and rounded once, always in the same order: resuming stays exact.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from replication.config import Speed
from replication.health import TrainingFailed

IGNORED = -100
# Elements of one chunk of logits: 0.5 GB in fp32; 880 rows at 152k words, 4,194 at 32k, enough to fill a GPU.
CHUNK = 2**27

# Hidden states (rows, length, D), the output layer's weight (V, D), labels (rows, length), to summed nats.
Summed = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def apply(model: PreTrainedModel, speed: Speed) -> None:
    """Give a loaded model the kernels and the compiler that `speed` names; before adapters are attached.

    Raises:
        ValueError: a CUDA device, a package or a compiler is missing, the architecture is not known, or two do not
            go together.
    """
    if speed.compile and speed.kernels in ("fused", "liger"):
        raise ValueError(
            f'Speed.kernels="{speed.kernels}" and Speed.compile are two ways to fuse the same operations, and nobody '
            'has checked them together; choose kernels "cut" or "reference" with compile, or compile=False'
        )
    if speed.kernels in ("fused", "liger"):
        _need_liger(speed.kernels)
        use_liger(model)
    if speed.kernels in ("fused", "cut"):
        sum_loss_inside(model)
    if speed.compile:
        compile_blocks(model)


def check_called(model: nn.Module, speed: Speed) -> None:
    """Once steps were made: the loss and the compiler that `speed` names must have run, and not only been installed.

    Published figures of speed came from runs that never called what they were named after. Liger's modules have no
    such check: their forward stands in the place of the module's own.
    """
    counted = [vars(m)["calls"] for m in model.modules() if "calls" in vars(m)]
    never = ["the loss without logits"] if speed.kernels in ("fused", "cut") and not any(counted) else []
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"] if speed.compile else 0
    never += ["torch.compile's code"] if speed.compile and not compiled else []
    if never:
        raise TrainingFailed(f"{' and '.join(never)} was never called, although the run's speed names it: {speed}")


@contextlib.contextmanager
def compiling_anew(speed: Speed) -> Iterator[None]:
    """Let a run that compiles pay for it itself: it takes nothing from what others compiled, and leaves nothing.

    With the cache that all runs of a machine share, the first one took 20 s for steps that cost the third one 4.5 s.
    """
    if not speed.compile:
        yield
        return
    from torch._inductor.utils import fresh_cache

    with fresh_cache():
        yield


def _need_liger(kernels: str) -> None:
    """Refuse where liger-kernel cannot run.

    Raises:
        ValueError: no CUDA device, or the package is not installed.
    """
    if not torch.cuda.is_available():
        raise ValueError(
            f'Speed.kernels="{kernels}" needs a CUDA device, and there is none; choose "reference" or "cut"'
        )
    if importlib.util.find_spec("liger_kernel") is None:
        raise ValueError(
            f'Speed.kernels="{kernels}" needs liger-kernel, which is not installed: `pip install -e ".[fused]"`, '
            'or choose "reference" or "cut"'
        )


# ---------------------------------------------------------------- torch.compile


def compile_blocks(model: PreTrainedModel) -> None:
    """Compile every block of this Llama or Qwen2, its adapters included, for the one shape of all batches.

    Blocks, because they are called as modules whatever wraps the model: PEFT calls the `forward` of the model inside
    itself, past what compiling the whole model would put in its place. All blocks share one compiled graph. Nothing is
    left out in silence: a block that cannot be compiled as a whole, or would be compiled over and over, is an error.
    Dropout draws what it draws without the compiler.

    Raises:
        ValueError: another architecture, attention that cannot be compiled, or no compiler.
    """
    config, compilers = model.config, (os.environ.get("CXX", "g++"), "g++", "clang++")
    if config.model_type not in ("llama", "qwen2"):
        raise ValueError(f"Speed.compile knows llama and qwen2, not {config.model_type}; choose compile=False")
    if config._attn_implementation != "sdpa":
        raise ValueError(
            f'Speed.compile needs attention="sdpa", not "{config._attn_implementation}", which loops over documents; '
            "choose one of the two"
        )
    if not torch.cuda.is_available() and not any(map(shutil.which, compilers)):
        raise ValueError("Speed.compile needs a C++ compiler on a CPU: install g++, or choose compile=False")
    # What the process compiled for earlier runs counts towards dynamo's limit of eight versions of a function.
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for block in model.model.layers:
        block.compile(fullgraph=True, dynamic=False, options={"fallback_random": True})


# ---------------------------------------------------------------- liger-kernel's modules


def use_liger(model: PreTrainedModel) -> None:
    """Liger's RMSNorm, rotary embedding and SwiGLU in every block of this Llama or Qwen2.

    Liger's own `_apply_liger_kernel_to_instance` also replaces the classes in transformers' modules, for every model
    that is made afterwards, those on a CPU included; hence the patches by hand, of the same parts.

    Raises:
        ValueError: another architecture.
    """
    from liger_kernel.transformers.rms_norm import LigerRMSNorm
    from liger_kernel.transformers.rope import liger_rotary_pos_emb
    from liger_kernel.transformers.swiglu import LigerSwiGLUMLP

    config = model.config
    if config.model_type not in ("llama", "qwen2") or config.hidden_act not in ("silu", "swish"):
        raise ValueError(
            f"liger's kernels are for llama and qwen2 with silu, not {config.model_type} with {config.hidden_act}; "
            'choose "reference"'
        )
    _norm(model.model.norm, LigerRMSNorm)
    for block in model.model.layers:
        _norm(block.input_layernorm, LigerRMSNorm)
        _norm(block.post_attention_layernorm, LigerRMSNorm)
        block.mlp.forward = MethodType(LigerSwiGLUMLP.forward, block.mlp)
        block.self_attn.forward = MethodType(_with_rotary(type(block.self_attn), liger_rotary_pos_emb), block.self_attn)


def _norm(module: nn.Module, liger: Any) -> None:
    # In place would overwrite the incoming gradient, of which others may hold a view; one buffer is the price.
    settings = {"offset": 0.0, "casting_mode": "llama", "in_place": False, "row_mode": None}
    for name, value in settings.items():
        setattr(module, name, value)
    module.forward = MethodType(liger.forward, module)


def _with_rotary(attention: type, rotary: Callable[..., Any]) -> FunctionType:
    """The attention's forward with another rotary function: transformers looks it up in its module, by name."""
    plain = attention.forward  # type: ignore[attr-defined]
    if "apply_rotary_pos_emb" not in plain.__code__.co_names:
        raise ValueError(
            f"{attention.__name__} does not call apply_rotary_pos_emb; is transformers of another version?"
        )
    names = plain.__globals__ | {"apply_rotary_pos_emb": rotary}
    changed = FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__, plain.__closure__)
    changed.__kwdefaults__ = plain.__kwdefaults__
    return changed


# ---------------------------------------------------------------- the loss inside the model


def sum_loss_inside(model: PreTrainedModel, summed: Summed | None = None) -> None:
    """Make a model return the summed loss, and no logits, where it is given labels; without labels nothing changes.

    The sum is taken inside the output layer's own call, because ZeRO-3 gathers a weight around its module's call and
    nowhere else. Tied embeddings and adapters in the blocks make no difference.

    Args:
        summed: takes the place of `summed_cross_entropy`.

    Raises:
        ValueError: no language model with an output layer `lm_head` without a bias.
    """
    head, language = getattr(model, "lm_head", None), type(model).__name__.endswith("ForCausalLM")
    if not language or not isinstance(head, nn.Linear):
        raise ValueError(
            f"the loss without logits is for language models with an lm_head, not {type(model).__name__}; "
            "choose kernels 'reference'"
        )
    if head.bias is not None:
        raise ValueError("the fused loss knows no bias in the output layer; choose kernels 'reference'")
    model.lm_head.summed = summed or summed_cross_entropy
    model.lm_head.calls = 0
    model.lm_head.forward = MethodType(_head_forward, model.lm_head)
    model.forward = MethodType(_model_forward, model)
    model.sums_loss = True


def sums_loss(forward: Callable[..., Any]) -> bool:
    """Whether the model behind a forward function (a model, an Engine's method) sums the loss itself."""
    owner = getattr(forward, "__self__", forward)
    return any(getattr(m, "sums_loss", False) for m in (owner, getattr(owner, "model", None)))


def _head_forward(self: Any, hidden: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    if labels is None:
        return type(self).forward(self, hidden)
    self.calls += 1
    return self.summed(hidden, self.weight, labels)


def _model_forward(self: Any, *args: Any, labels: torch.Tensor | None = None, **inputs: Any) -> Any:
    if labels is None:
        return type(self).forward(self, *args, **inputs)
    hidden = self.model(*args, **inputs).last_hidden_state
    return CausalLMOutputWithPast(loss=self.lm_head(hidden, labels=labels))


def summed_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy in nats of labels shifted by one, in fp32, without the logits of all tokens at once.

    Args:
        hidden: (rows, length, D); weight: (V, D), of the same dtype; labels: (rows, length), -100 where none counts.
    """
    return _Summed.apply(hidden, weight, labels)


class _Summed(torch.autograd.Function):
    """Both gradients are made in the forward pass, while a chunk's probabilities are at hand; backward scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wants_hidden, wants_weight, _ = ctx.needs_input_grad
        flat = hidden.reshape(-1, hidden.shape[-1])
        # Token t predicts label t + 1; the last token of a row predicts nothing.
        targets = torch.full_like(labels, IGNORED)
        targets[:, :-1] = labels[:, 1:]
        targets = targets.flatten()
        kept = (targets != IGNORED).nonzero().flatten()
        total = torch.zeros((), device=hidden.device)
        d_hidden = torch.zeros_like(flat, dtype=torch.float32) if wants_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for rows in kept.split(max(1, CHUNK // weight.shape[0])):
            h, y = flat[rows], targets[rows][:, None]
            scores = _product(h, weight.t())
            norm = scores.logsumexp(-1, keepdim=True)
            total += (norm - scores.gather(1, y)).sum()
            p = scores.sub_(norm).exp_().scatter_add_(1, y, -torch.ones_like(norm)).to(h.dtype)
            del scores
            if d_hidden is not None:
                d_hidden[rows] = _product(p, weight)
            if d_weight is not None:
                _add_product(d_weight, p.t(), h)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.like = (hidden.shape, hidden.dtype, weight.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        shape, hidden_type, weight_type = ctx.like
        return (
            None if d_hidden is None else (d_hidden * upstream).to(hidden_type).view(shape),
            None if d_weight is None else (d_weight * upstream).to(weight_type),
            None,
        )


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b in fp32, whatever their dtype; tensor cores sum in fp32 anyway, and only CUDA hands that sum out."""
    if a.dtype == torch.float32:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a @ b, in place and in fp32."""
    if a.is_cuda and a.dtype != torch.float32:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(a.float(), b.float())


def packaged_cross_entropy(impl: str = "cce_exact") -> Summed:
    """The loss of the package cut-cross-entropy, for comparison; "cce_exact" neither filters nor sums in bf16.

    Raises:
        ValueError: the package is absent, or too old for the variant asked for.
    """
    source = "`pip install 'cut-cross-entropy @ git+https://github.com/apple/ml-cross-entropy'`"
    if importlib.util.find_spec("cut_cross_entropy") is None:
        raise ValueError(f"cut-cross-entropy is not installed: {source}")
    import cut_cross_entropy

    if impl.startswith("cce_") and not hasattr(cut_cross_entropy, "VocabParallelOptions"):
        raise ValueError(f"cut-cross-entropy {cut_cross_entropy.__version__} has no variant {impl!r}: {source}")

    def summed(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cut_cross_entropy.linear_cross_entropy(
            hidden, weight, labels, ignore_index=IGNORED, shift=1, reduction="sum", impl=impl
        )

    return summed
