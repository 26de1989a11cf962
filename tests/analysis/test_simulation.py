"""A thousand simulated studies under a true null: how often the verdict code says what is not so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis import answers, evidence, verdicts
from experiments.comparisons import Claim, Contrast, Part, Rule, Scores, Term
from replication import stats
from replication.stats import Estimate, contrast, detectable, holm

STUDIES = 1000
SMALLEST = 0.05
TINY = 1e-6  # no smallest effect to speak of: what is left is the interval's own error
# One side of a 95 % interval errs in 2.5 %; three Monte Carlo errors more are still below the 5 % that we promise.
ALLOWED = 0.04


@pytest.fixture(autouse=True)
def no_mde(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates without the search for their detectable effect, which takes most of the time and decides nothing."""
    monkeypatch.setattr(stats, "detectable", lambda *args, **kwargs: 0.0)


def _estimate(rng: np.random.Generator, effect: float, *, seeds: int = 3, items: int = 100) -> Estimate:
    """Paired differences with what items, seeds and both together do to them; an item error of 2 %, seeds' of 2 %."""
    by_item, by_seed = 0.2 * rng.normal(size=items), 0.03 * rng.normal(size=(seeds, 1))
    return contrast([effect + by_item + by_seed + 0.2 * rng.normal(size=(seeds, items))])


def _part(rule: Rule, contrasts: int = 1, smallest: float = SMALLEST) -> Part:
    one = Contrast("learning", (Term(1, "full", "long"), Term(-1, "high", "long")))
    return Part(f"{rule} {contrasts}", "", Scores((one,) * contrasts), rule, smallest, "score", "")


def _claimed(claim: Claim, found: list[list[Estimate]]) -> list[dict[str, Any]]:
    """The rows of a claim from the estimates of each part, through the code that writes the verdicts."""
    own = [
        verdicts._row(claim, part, evidence.Scope("toy"), [evidence.Effect("a - b", e) for e in estimates])
        for part, estimates in zip(claim.parts, found, strict=True)
    ]
    return verdicts._corrected([*own, verdicts._overall(claim, own, None)])


def _shares(said: list[list[dict[str, Any]]], answer: str) -> list[float]:
    """How many studies gave this answer, for each part and last for the claim."""
    return [float(np.mean([rows[k]["answer"] == answer for rows in said])) for k in range(len(said[0]))]


@pytest.mark.parametrize(
    ("rule", "smallest", "edge"),
    [("greater", TINY, 0.0), ("greater", SMALLEST, 0.0), ("equal", SMALLEST, SMALLEST), ("not less", SMALLEST, -0.05)],
)
def test_a_null_on_the_edge_of_the_rule_is_rarely_supported(rule: Rule, smallest: float, edge: float) -> None:
    rng = np.random.default_rng(11)
    claim = Claim("X", "", "", (_part(rule, smallest=smallest),))
    said = [_claimed(claim, [[_estimate(rng, edge)]]) for _ in range(STUDIES)]
    part, whole = _shares(said, "supported")
    assert part == whole <= ALLOWED
    if smallest == TINY:
        assert whole >= 0.01  # the simulation does reach the edge of the interval


def test_one_false_part_keeps_a_claim_from_being_supported() -> None:
    """The case most in favour of a false claim: all but one of its effects are clearly there."""
    rng = np.random.default_rng(15)
    claim = Claim("X", "", "", (_part("greater", 2, TINY), _part("greater"), _part("not less"), _part("equal", 1, 0.5)))
    truths = [(0.0, 0.5), (0.5,), (0.5,), (0.0,)]
    said = [_claimed(claim, [[_estimate(rng, t) for t in part] for part in truths]) for _ in range(STUDIES)]
    false, *true, whole = _shares(said, "supported")
    assert false <= ALLOWED and whole <= ALLOWED
    assert min(true) >= 0.98


def test_a_true_claim_of_many_parts_is_rarely_called_refuted() -> None:
    rng = np.random.default_rng(12)
    # Each part at the edge of its truth: the smallest effect that still counts, or the largest that is still equal.
    truths: list[tuple[Rule, float]] = [("greater", SMALLEST)] * 4 + [("equal", SMALLEST)] * 2
    truths.append(("not less", -SMALLEST))
    counts = [2, 1, 1, 1, 1, 1, 1]
    claim = Claim("X", "", "", tuple(_part(rule, n) for (rule, _), n in zip(truths, counts, strict=True)))
    said = [
        _claimed(claim, [[_estimate(rng, t) for _ in range(n)] for (_, t), n in zip(truths, counts, strict=True)])
        for _ in range(STUDIES)
    ]
    *parts, whole = _shares(said, "not supported")
    assert max(parts) <= ALLOWED
    assert whole <= 0.05
    any_part = np.mean([any(row["answer"] == "not supported" for row in rows[:-1]) for rows in said])
    assert any_part > whole  # what the correction is for


# The errors that `_estimate` is drawn with: of 100 items alone, of 3 seeds with what both do together.
TRUE_ERRORS = (0.2 / 10, ((0.03**2 + 0.2**2 / 100) / 3) ** 0.5)


def test_the_minimum_detectable_effect_has_the_power_it_states() -> None:
    rng = np.random.default_rng(13)
    size = detectable(*TRUE_ERRORS, seeds=3, items=100)
    found = [answers.answer(_estimate(rng, size), "greater", 0.01) == "supported" for _ in range(STUDIES)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)
    # Where the smallest effect of interest is the larger, the effect must reach that as well.
    est = Estimate(0.0, -0.02, 0.02, 0.01, 100, 3, "items and seeds", 0.03, 0.008, 0.006)
    assert answers.detects(est, "greater", 0.1) == pytest.approx(0.1 + 0.8416 * 0.01)


@pytest.mark.parametrize("rule", ["equal", "not less"])
def test_a_true_zero_is_within_the_detectable_margin_four_times_in_five(rule: Rule) -> None:
    rng = np.random.default_rng(16)
    mde = detectable(*TRUE_ERRORS, seeds=3, items=100)
    design = Estimate(0, 0, 0, float(np.hypot(*TRUE_ERRORS)), 100, 3, "items and seeds", mde, *TRUE_ERRORS)
    margin = answers.detects(design, rule, SMALLEST)
    found = [answers.answer(_estimate(rng, 0.0), rule, margin) == "supported" for _ in range(STUDIES)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)


def test_p_values_agree_with_the_answers() -> None:
    rng = np.random.default_rng(14)
    for effect in np.linspace(-0.2, 0.2, 60):
        est = _estimate(rng, float(effect))
        for rule in ("equal", "not less"):
            said = answers.answer(est, rule, SMALLEST)  # type: ignore[arg-type]
            assert (answers.p_support(est, rule, SMALLEST) < 0.025) == (said == "supported")  # type: ignore[arg-type]
            assert (answers.p_against(est, rule, SMALLEST) < 0.025) == (said == "not supported")  # type: ignore[arg-type]
        assert (answers.p_support(est, "greater", SMALLEST) < 0.025) == (est.low > 0)


def test_holm_is_the_textbook_procedure() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.05]) == [True] and holm([]) == []
    assert holm([0.03, 0.03]) == [False, False]


def test_arms_that_are_alike_are_not_supported_in_whole_studies(make_study: Callable[..., Any]) -> None:
    """The whole path, tables included: full and every rank learn and forget alike."""

    def alike(study: str, arm: str, length: float) -> dict[str, float]:
        done = 0.0 if arm == "base" else 1.0
        return {
            "learning": 0.2 + 0.4 * done, "forgetting": 0.9 - 0.2 * done, "source_loss": 1 + done,
            "target_loss": 3 - done, "correct": 30.0, "incorrect": 30.0,
        }  # fmt: skip

    claims = [c for c in verdicts.CLAIMS if c.id in ("C1", "C3")]
    made, _ = verdicts.verdicts(make_study(alike, items=60, only=("cpt_code", "cpt_math")), [], claims)
    asked = [r for r in made if r["rule"] == "greater" and r["effect"] is not None]
    assert len(asked) >= 8
    assert not any(row["answer"] == "supported" and row["holm"] for row in asked)
    assert all(row["answer"] != "supported" for row in made if row["part"] == "overall")
