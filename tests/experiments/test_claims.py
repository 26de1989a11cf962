"""The claims are well-formed data: every part can be asked, sizes are positive, words are there."""

from __future__ import annotations

import subprocess
import sys

from experiments.claims import CLAIMS
from experiments.comparisons import Scores


def test_claims_and_their_parts_are_named_once() -> None:
    assert [claim.id for claim in CLAIMS] == ["C1", "C2", "C3", "C4", "C7", "C8"]
    for claim in CLAIMS:
        names = [part.id for part in claim.parts]
        assert len(set(names)) == len(names) >= 3
        assert all(part.smallest > 0 and part.statement.endswith(".") for part in claim.parts)


def test_contrasts_compare_and_do_not_sum() -> None:
    contrasts = [c for k in CLAIMS for p in k.parts if isinstance(p.measure, Scores) for c in p.measure.contrasts]
    assert len(contrasts) >= 20
    assert all(sum(term.weight for term in c.terms) == 0 for c in contrasts)


def test_claims_load_without_numpy_or_torch() -> None:
    code = "import experiments.claims, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
