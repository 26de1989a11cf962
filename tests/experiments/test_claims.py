"""The claims are well-formed data: every part can be asked, sizes are positive, words are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from experiments import sides
from experiments.claims import CLAIMS
from experiments.comparisons import Contrast, Measured, Scores

ANALYSIS = Path(__file__).resolve().parents[2] / "analysis"
PAPER = [f"C{n}" for n in range(1, 13)]
FOLLOW_UPS = ["T1", "T2", "T3", "T4", "I1", "I2", "I3", "O1"]


def _contrasts() -> list[Contrast]:
    return [c for k in CLAIMS for p in k.parts if isinstance(p.measure, Scores) for c in p.measure.contrasts]


def test_all_claims_of_the_paper_and_its_follow_ups_are_there() -> None:
    assert [claim.id for claim in CLAIMS if claim.family != "side study"] == [*PAPER, *FOLLOW_UPS]
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.id for claim in CLAIMS if claim.family == "paper"} == set(PAPER)


def test_parts_are_named_once_and_say_what_would_refute_them() -> None:
    for claim in CLAIMS:
        names = [part.id for part in claim.parts]
        assert len(set(names)) == len(names) >= 1
        assert any(part.counts for part in claim.parts)
        assert all(part.smallest > 0 and part.unit for part in claim.parts)
        assert all(part.statement.endswith(".") and part.refuted_by.endswith(".") for part in claim.parts)


def test_contrasts_compare_and_do_not_sum() -> None:
    contrasts = _contrasts()
    assert len(contrasts) >= 60
    assert all(abs(sum(term.weight for term in c.terms)) < 1e-12 for c in contrasts)


def test_no_contrast_compares_a_run_with_itself() -> None:
    for item in _contrasts():
        keys = [(t.arm, t.at, t.variant, t.rate, t.regime, t.domain) for t in item.terms]
        assert len(set(keys)) == len(keys), item


def test_parts_with_variants_name_the_ablation_that_trains_them() -> None:
    parts = [p for k in CLAIMS for p in k.parts if isinstance(p.measure, Scores)]
    with_variants = [p for p in parts if any(t.variant for c in p.measure.contrasts for t in c.terms)]  # type: ignore[union-attr]
    assert len(with_variants) >= 16
    assert {p.ablation for p in with_variants} == {"regularisation", "alpha", "modules", "matched"}
    assert not [p.id for p in parts if p.ablation and p not in with_variants]


def test_the_rate_ratio_is_one_number_in_both_claims() -> None:
    measures = {k.id: p.measure for k in CLAIMS for p in k.parts if p.id == "ten times the rate"}
    assert measures["C11"] == measures["T1"] == Measured("lr_ratio_mean", reference=1.0)
    (part,) = next(claim for claim in CLAIMS if claim.id == "T1").parts
    assert "C11" in part.statement


def test_every_named_estimate_is_one_that_an_analysis_makes() -> None:
    sources = "".join(path.read_text() for path in sorted(ANALYSIS.glob("*.py")))
    # Names that are put together (measure, outcome, temperature) stand in no source, but in tracked rows.
    sources += "".join(path.read_text() for path in sorted(ANALYSIS.glob("results/pocket/*_effects.jsonl")))
    named = {p.measure.quantity for k in CLAIMS for p in k.parts if isinstance(p.measure, Measured)}
    assert len(named) >= 15
    asked = [question.quantity for study in sides.STUDIES for question in sides.questions(study)]
    assert len(set(asked)) == len(asked)
    named -= set(asked)
    assert {name for name in named if f'"{name}"' not in sources} == set()


def test_claims_load_without_numpy_or_torch() -> None:
    code = "import experiments.claims, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
