"""`python -m paper_figures` writes every file, finds what is missing, and runs without torch."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paper_figures import __main__ as command
from paper_figures import catalogue, style

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ask(study, monkeypatch, tmp_path):
    """Run the command on the toy study, two settings of it; returns its exit status."""
    scale = dataclasses.replace(study.scale, settings=study.scale.settings[::2])
    monkeypatch.setattr(command.scales, "load", lambda name: scale)
    monkeypatch.setattr(style, "DPI", 60)
    fixed = ["--analysis", str(study.analysis), "--results", str(study.results), "--out", str(tmp_path / "out")]
    return lambda *extra: command.main([*fixed, *extra])


def test_every_figure_is_written_under_its_name_with_a_sidecar(ask, tmp_path):
    assert ask() == 0
    folder = tmp_path / "out" / "toy"
    stems = {path.stem for path in folder.glob("*.png")}
    absent = {module.STEM for module in catalogue.FIGURES} - stems
    assert {stem for stem in absent if not stem.startswith("side_")} == {"figS4_mix"}  # no setting of the mix here
    for stem in stems:
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert json.loads((folder / f"{stem}.json").read_text())["figure"] == stem
    assert "Code CPT" in (folder / "tables.md").read_text()
    assert "<html" in (folder / "report.html").read_text()
    assert ask("--check") == 0


def test_one_figure_leaves_the_others_alone(ask, tmp_path):
    assert ask("fig5") == 0
    names = {path.name for path in (tmp_path / "out" / "toy").iterdir()}
    assert names == {f"fig5_diversity.{ending}" for ending in ("png", "pdf", "json")}


def test_an_unknown_figure_is_one_line_that_lists_the_known(ask, capsys):
    assert ask("fig12") == 2
    assert "fig1_learning" in capsys.readouterr().err


def test_check_finds_a_changed_row_and_names_figure_table_and_command(ask, study, capsys):
    assert ask("fig5") == 0
    path = study.analysis / "toy" / "diversity.jsonl"
    path.write_text(path.read_text().replace('"problems": 60', '"problems": 61', 1))
    assert ask("fig5", "--check") == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("fig5_diversity: diversity.jsonl has changed")
    assert "`python -m paper_figures fig5_diversity --scale pocket`" in line


def test_check_draws_nothing_and_misses_a_figure_that_is_not_there(ask, tmp_path, capsys):
    assert ask("fig5", "--check") == 1
    assert not (tmp_path / "out").exists()
    assert "fig5_diversity.json and fig5_diversity.png missing, from diversity.jsonl" in capsys.readouterr().err
    assert ask("fig5") == 0
    assert ask("fig5", "--check") == 0
    (tmp_path / "out" / "toy" / "fig5_diversity.png").unlink()
    assert ask("fig5", "--check") == 1


def test_check_finds_a_picture_that_its_sidecar_was_not_written_with(ask, tmp_path, capsys):
    assert ask("fig5") == 0
    folder = tmp_path / "out" / "toy"
    (folder / "fig5_diversity.pdf").unlink()
    assert ask("fig5", "--check") == 0
    (folder / "fig5_diversity.png").write_bytes(b"no picture")
    assert ask("fig5", "--check") == 1
    assert "fig5_diversity.png is not the file that fig5_diversity.json was written" in capsys.readouterr().err


@pytest.mark.parametrize("constant", ["NaN", "-Infinity"])
def test_a_row_that_holds_no_number_is_named_by_file_and_line(ask, study, capsys, constant):
    path = study.analysis / "toy" / "diversity.jsonl"
    path.write_text(path.read_text() + '{"value": ' + constant + "}\n")
    assert ask("fig5") == 2
    line = len(path.read_text().splitlines())
    assert f"diversity.jsonl, line {line}: {constant} is no measurement" in capsys.readouterr().err


def test_an_absent_table_is_one_line_and_the_rest_is_drawn(ask, study, capsys, tmp_path):
    (study.analysis / "toy" / "intruder_scaling.jsonl").unlink()
    assert ask("intruder_scaling") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "intruder_scaling" in line]
    assert len(lines) == 1
    assert "`python analysis/scaling.py --score --scale pocket`" in lines[0]


def test_a_missing_cell_is_named(ask, study, capsys):
    path = study.analysis / "toy" / "diversity.jsonl"
    kept = [line for line in path.read_text().splitlines() if '"arm": "r1", "length": 50000.0' not in line]
    path.write_text("\n".join(kept) + "\n")
    assert ask("fig5") == 0
    assert "fig5_diversity: cpt_code r1 at 50k tokens" in capsys.readouterr().err


def test_a_folder_without_rows_is_one_line_and_status_2(ask, tmp_path, capsys):
    assert ask("--analysis", str(tmp_path / "nowhere")) == 2
    message = capsys.readouterr().err
    assert message.startswith("paper_figures: no analysis rows")
    assert message.count("\n") == 1


def test_drawing_does_not_load_torch(study, tmp_path):
    program = (
        "import sys, runpy\n"
        "from paper_figures import __main__ as command\n"
        f"toy = runpy.run_path({str(ROOT / 'tests/paper_figures/rows.py')!r})\n"
        "command.scales.load = lambda name: toy['make_scale']()\n"
        f"status = command.main(['--analysis', {str(study.analysis)!r}, '--results', {str(study.results)!r},"
        f" '--out', {str(tmp_path)!r}, 'fig1'])\n"
        "sys.exit(status or ('torch' in sys.modules))"
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


# The tracked spectra of one setting, whose series are many, at a small size.
SMALL = """
import dataclasses, sys
from paper_figures import __main__ as command, style
style.DPI = 60
load = command.scales.load
command.scales.load = lambda name: dataclasses.replace(load(name), settings=load(name).settings[:1])
sys.exit(command.main(["fig6", "--out", sys.argv[1]]))
"""


def test_a_picture_of_the_same_rows_is_the_same_file(tmp_path):
    # Strings hash differently in every process; what is drawn in the order of a set would be too.
    made = []
    for seed in ("1", "2"):
        command, environment = (
            [sys.executable, "-c", SMALL, str(tmp_path / seed)],
            os.environ | {"PYTHONHASHSEED": seed},
        )
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        made.append({path.name: path.read_bytes() for path in (tmp_path / seed / "pocket").glob("*.png")})
    assert made[0] and made[0] == made[1]
