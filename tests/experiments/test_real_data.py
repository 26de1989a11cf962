"""Real input: a pretrained model of 260k parameters, Python files and GSM8K, through the commands of the README."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCALE = ROOT / "tests" / "scales" / "stories.py"
EXCERPT = 15_000  # characters of the stories, of 197,000: they are scored for every run
QUESTIONS = 40  # to learn from, of the scale's 100: two epochs take the loss from 7.1 to 3.5
CHANCE_OF_A_TOKEN = 6.24  # ln 512, the vocabulary


@pytest.fixture(scope="module")
def studied(forked: SimpleNamespace, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def call(module: str, *arguments: object) -> None:
        done = forked.call("-m", module, *arguments)
        assert done.returncode == 0, done.stderr

    root = tmp_path_factory.mktemp("stories")
    stories = shared_data / "corpora/tinystories_b/tinystories_b.txt"
    (root / "stories.txt").write_text(stories.read_text()[:EXCERPT])
    whole = 'f"{DATA}/corpora/tinystories_b/tinystories_b.txt"'
    content = SCALE.read_text().replace(whole, repr(str(root / "stories.txt")))
    assert str(root) in content and content.count("limit=100") == 1
    content = content.replace("limit=100", f"limit={QUESTIONS}")
    (root / "stories.py").write_text(content)
    scale, runs, rows = ("--scale", root / "stories.py"), ("--runs", root / "runs"), root / "rows"
    call("experiments", "run", "study", *scale, *runs)
    call("experiments", "collect", *scale, *runs, "--into", rows, "--allow-dirty")
    call("analysis", *scale, *runs, "--results", rows, "--out", root / "numbers")
    call("paper_figures", *scale, "--results", rows, "--analysis", root / "numbers", "--out", root / "figures")
    return root


def read(path: Path) -> Iterator[dict]:
    yield from map(json.loads, path.read_text().splitlines())


def losses(root: Path, study: str, eval: str) -> dict[str, float]:
    """Nats per token by run name, the base among them."""
    return {
        row["run"]: row["value"]
        for table in (study, "base")
        for row in read(root / "rows" / "stories" / f"{table}.jsonl")
        if (row["eval"], row["metric"]) == (eval, "nats_per_token")
    }


@pytest.mark.parametrize(("study", "target"), [("cpt_code", "code_loss"), ("ift_math", "gsm8k_loss")])
@pytest.mark.parametrize("arm", ["full", "lora-r4"])
def test_the_loss_on_real_code_and_maths_falls_with_length(studied: Path, study: str, target: str, arm: str) -> None:
    found = losses(studied, study, target)
    base = found.pop("base")
    by_length = [found[name] for name in sorted(found, key=lambda n: float_length(n)) if f"/{arm}" in name]
    assert len(by_length) == 2
    assert base > by_length[0] > by_length[1]
    assert base - by_length[1] > 0.5


@pytest.mark.parametrize("study", ["cpt_code", "ift_math"])
def test_the_loss_on_its_own_stories_moves(studied: Path, study: str) -> None:
    found = losses(studied, study, "stories_loss")
    base = found.pop("base")
    assert base < 2.5 < CHANCE_OF_A_TOKEN
    assert all(value - base > 0.05 for value in found.values())


def test_spectra_cover_every_matrix_of_full_and_lora(studied: Path) -> None:
    spectra = list(read(studied / "numbers" / "stories" / "spectra.jsonl"))
    assert {row["arm"] for row in spectra} >= {"full", "r4"}
    assert all(row["rank90"] <= 4 for row in spectra if row["arm"] == "r4" and row["which"] == "change")


def test_figures_and_a_report_come_out(studied: Path) -> None:
    folder = studied / "figures" / "stories"
    for stem in ("fig1_learning", "fig2_forgetting", "fig3_tradeoff", "fig6_spectra"):
        assert (folder / f"{stem}.png").stat().st_size > 10_000
    assert "stories260K" in (folder / "report.html").read_text()


def float_length(name: str) -> float:
    """Length in a run's name: `.../full-lr1e-3-tok16.384k-s0` -> 16384."""
    text = name.rsplit("-s", 1)[0].rsplit("-", 1)[1].removeprefix("tok").removeprefix("ep")
    return float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
