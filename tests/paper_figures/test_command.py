"""`python -m paper_figures` writes every file, finds what is missing, and runs without torch."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paper_figures import __main__ as command
from paper_figures import style

STEMS = ("fig1_learning", "fig2_forgetting", "fig3_tradeoff", "fig5_diversity", "fig6_spectra")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ask(study, monkeypatch, tmp_path):
    """Run the command on the toy study, two settings of it; returns its exit status."""
    scale = dataclasses.replace(study.scale, settings=study.scale.settings[::2])
    monkeypatch.setattr(command.scales, "load", lambda name: scale)
    monkeypatch.setattr(style, "DPI", 60)
    fixed = ["--analysis", str(study.analysis), "--results", str(study.results), "--out", str(tmp_path / "out")]
    return lambda *extra: command.main([*fixed, *extra])


def test_everything_is_written_under_the_papers_names(ask, tmp_path):
    assert ask() == 0
    folder = tmp_path / "out" / "toy"
    for stem in STEMS:
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "report.html").read_text().count("data:image/png;base64,") == len(list(folder.glob("*.png")))
    assert "Code CPT" in (folder / "tables.md").read_text()


def test_only_one_figure_leaves_the_others_alone(ask, tmp_path):
    assert ask("--only", "fig5") == 0
    assert {p.name for p in (tmp_path / "out" / "toy").iterdir()} == {"fig5_diversity.png", "fig5_diversity.pdf"}


def test_check_writes_nothing_and_accepts_a_complete_study(ask, tmp_path, capsys):
    assert ask("--check", "--only", "fig1") == 0
    assert not (tmp_path / "out").exists()
    assert "complete" in capsys.readouterr().out


def test_check_fails_on_one_missing_cell_and_names_it(ask, study, capsys):
    path = study.analysis / "toy" / "curves.jsonl"
    kept = [
        line
        for line in path.read_text().splitlines()
        if not ('"ift_code", "arm": "r1"' in line and '"length": 2.0' in line)
    ]
    path.write_text("\n".join(kept) + "\n")
    assert ask("--check", "--only", "fig1") == 1
    assert "fig1: ift_code r1 at 2 epochs" in capsys.readouterr().err


def test_a_folder_without_rows_is_one_line_and_status_2(ask, tmp_path, capsys):
    assert ask("--analysis", str(tmp_path / "nowhere")) == 2
    message = capsys.readouterr().err
    assert message.startswith("paper_figures: no analysis rows")
    assert message.count("\n") == 1


def test_drawing_loads_no_torch(study, tmp_path):
    program = (
        "import sys, runpy\n"
        "from paper_figures import __main__ as command\n"
        f"toy = runpy.run_path({str(ROOT / 'tests/paper_figures/rows.py')!r})\n"
        "command.scales.load = lambda name: toy['make_scale']()\n"
        f"status = command.main(['--analysis', {str(study.analysis)!r}, '--results', {str(study.results)!r},"
        f" '--out', {str(tmp_path)!r}, '--only', 'fig1'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "toy" / "fig1_learning.png").is_file()
