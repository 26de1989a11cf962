"""What runs inside vLLM's worker process: loading another full checkpoint into the running model.

`reload_weights` puts new values into every parameter, but a layer that shares another layer's parameter (an output
layer tied to the embedding) gets none of its own, so it is not processed again. On a CPU that matters: vLLM packs the
weight of each matrix product when it loads, and such a layer would go on with its packed copy of the old weight
(seen with vLLM 0.32: -10.846 where a fresh engine gives -11.186). So every layer with a packed copy packs again.
"""

from __future__ import annotations

from typing import Any


class ReloadExtension:
    """Mixed into vLLM's worker (`worker_extension_cls`); its methods are called by name through `collective_rpc`."""

    model_runner: Any

    def load_full(self, folder: str) -> None:
        """Replace the weights by those of a checkpoint folder of the same architecture."""
        self.model_runner.reload_weights(weights_path=folder)
        _pack_again(self.model_runner.get_model())


def _pack_again(model: Any) -> None:
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if hasattr(layer, "cpu_linear") and weight is not None and weight.numel():
            dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
