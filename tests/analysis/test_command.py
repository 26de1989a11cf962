"""The commands as a user types them: all analyses from tables alone, and spectra of a pair of folders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from analysis import command, rows, spectra

ROOT = Path(__file__).resolve().parent.parent.parent


def _python(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*([before] if before else []), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_all_analyses_run_without_torch_and_keep_tracked_spectra(
    make_study: Callable[..., Any], scale: Any, tmp_path: Path
) -> None:
    make_study(items=20, seeds=(0,), files=True)
    # A torch that cannot be imported, found before the real one, and a scale file that rebuilds the made-up scale.
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "torch.py").write_text("raise ImportError('no torch on this machine')")
    imports = "".join(f"from replication.{module} import *\n" for module in ("config", "specs", "scale"))
    (tmp_path / "toy.py").write_text(imports + f"SCALE = {scale!r}\n")
    out = tmp_path / "out"
    rows.write(out / "toy" / "spectra.jsonl", [])
    code = (
        "import importlib.util, sys; real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)\n"
        f"sys.argv = ['analysis', '--scale', {str(tmp_path / 'toy.py')!r}]\n"
        f"sys.argv += ['--results', {str(tmp_path)!r}, '--out', {str(out)!r}]\n"
        "from analysis.__main__ import main; main(); assert 'torch' not in sys.modules"
    )
    done = _python("-c", code, before=str(tmp_path / "blocked"))
    assert done.returncode == 0, done.stderr
    assert "skipped, tracked rows kept (torch is not installed)" in done.stdout
    assert "every part with its interval" in done.stdout
    written = {path.name for path in (out / "toy").iterdir()}
    with_effects = ("tradeoff", "sweeps", "capacity", "pass_at_k", "throughput")
    tables = ("curves", "diversity", "spectra", "verdicts", "missing", *with_effects[:-1])
    assert written == {f"{name}.jsonl" for name in (*tables, *(f"{name}_effects" for name in with_effects))}


def test_spectra_of_any_pair_run_as_a_script(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, extra in (("base", 0.0), ("tuned", 0.1)):
        (tmp_path / name).mkdir()
        weight = torch.eye(16) + extra * torch.randn(16, 16, generator=generator)
        save_file({"model.layers.0.self_attn.q_proj.weight": weight}, tmp_path / name / "model.safetensors")
    pair = ("--base", str(tmp_path / "base"), "--tuned", str(tmp_path / "tuned"))
    kept = ("--cache", str(tmp_path / "cache"))
    done = _python("analysis/spectra.py", *pair, *kept, "--rows", str(tmp_path / "rows.jsonl"))
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        [which, "q_proj"] for which in ("base", "tuned", "change")
    ]
    assert [r["which"] for r in rows.read(tmp_path / "rows.jsonl")] == ["base", "tuned", "change"]


@pytest.mark.parametrize("script", ["-m analysis", "analysis/spectra.py", "analysis/curves.py", "analysis/verdicts.py"])
@pytest.mark.parametrize("wrong", [("--scale", "galactic"), ("--results", "nowhere")])
def test_a_wrong_request_is_one_line_and_status_2(
    script: str, wrong: tuple[str, str], tmp_path: Path, forked: SimpleNamespace
) -> None:
    done = forked.call(*script.split(), *wrong, "--runs", str(tmp_path), "--out", str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("analysis: ")
    assert wrong[1] in done.stderr


def test_a_folder_that_is_not_there_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for tuned in ("no/such/folder", str(tmp_path)):
        monkeypatch.setattr(sys, "argv", ["spectra.py", "--base", str(tmp_path), "--tuned", tuned])
        with pytest.raises(SystemExit):
            spectra.main()
        shown = capsys.readouterr().err
        assert "no local folder" in shown or "no *.safetensors" in shown


def test_bare_spectra_print_the_tracked_rows_without_torch_and_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch on this machine')")
    tracked = ROOT / "analysis" / "results" / "pocket" / "spectra.jsonl"
    before = tracked.read_bytes()
    done = _python("analysis/spectra.py", "--runs", str(tmp_path / "none"), before=str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, *shown = done.stdout.splitlines()
    assert "tracked rows kept" in first and "`make study` makes them" in first
    assert {"cpt_code", "ift_math"} <= {line.split()[0] for line in shown}
    assert tracked.read_bytes() == before


def test_rows_of_named_tables_never_go_into_the_tracked_folder(tmp_path: Path) -> None:
    def out(*given: str) -> Path:
        return command.places("", ["--runs", str(tmp_path), *given]).out

    assert out() == Path("analysis/results/pocket")
    assert out("--results", "some/tables") == tmp_path / "analysis" / "pocket"
    assert out("--results", "some/tables", "--out", "there") == Path("there/pocket")
    (tmp_path / "results" / "pocket").mkdir(parents=True)
    assert out() == tmp_path / "analysis" / "pocket"


@pytest.mark.parametrize("script", ["spectra", "intruders", "scaling", "artefact"])
def test_of_printed_scores_there_are_no_checkpoints_and_of_no_rows_no_table(
    script: str, tmp_path: Path, forked: SimpleNamespace
) -> None:
    done = forked.call(f"analysis/{script}.py", "--scale", "reported", "--runs", str(tmp_path), "--out", str(tmp_path))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "nothing to analyse" in done.stderr
    places = ("--runs", str(tmp_path / "none"), "--out", str(tmp_path / "empty"))
    done = forked.call(f"analysis/{script}.py", *places)
    assert done.returncode == 0, done.stderr
    assert "skipped, tracked rows kept" in done.stdout and "error" not in done.stderr


@pytest.mark.parametrize("script", ["spectra", "intruders"])
def test_a_pair_without_torch_is_refused_in_words(script: str, tmp_path: Path) -> None:
    code = (
        "import importlib.util, runpy, sys; real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)\n"
        f"sys.argv = ['{script}.py', '--base', 'a', '--tuned', 'b']\n"
        f"runpy.run_module('analysis.{script}', run_name='__main__')"
    )
    done = _python("-c", code)
    assert done.returncode == 2 and "a pair needs torch" in done.stderr and "Traceback" not in done.stderr
