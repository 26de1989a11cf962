"""Intruder counts on matrices whose directions are planted, and the value of chance against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from analysis import directions


def _basis(size: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def _planted(cosines: list[float], *, rows: int = 40, columns: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A tall base and a tuned matrix whose leading left vectors have exactly these largest cosines to the base's.

    Each planted direction leans on one vector of the base and for the rest on the base's complement, which a tall base
    has; signs alternate, because a singular vector has none of its own.
    """
    left, right = _basis(rows, 1), _basis(columns, 2)
    base = (left[:, :columns] * np.linspace(2, 1, columns)) @ right.T
    tuned_left = left[:, :columns].copy()
    for place, cosine in enumerate(cosines):
        fresh = left[:, columns + place]
        sign = -1.0 if place % 2 else 1.0
        tuned_left[:, place] = sign * (cosine * left[:, place] + np.sqrt(1 - cosine**2) * fresh)
    tuned = (tuned_left * np.linspace(20, 1, columns)) @ right.T
    return base, tuned


def test_planted_directions_are_counted_exactly_at_every_threshold_and_k() -> None:
    cosines = [0.05, 0.95, 0.35, 0.5, 0.65, 0.15, 1.0, 0.0]
    base, tuned = _planted(cosines)
    best = directions.best_cosines(directions.top_left_vectors(tuned, 10), directions.left_vectors(base))
    assert best == pytest.approx([*cosines, 1.0, 1.0], abs=1e-12)
    for epsilon in (0.1, 0.2, 0.4, 0.6, 0.7, 0.9, 0.99):
        for k in (1, 2, 3, 5, 8, 10):
            assert directions.count(best, epsilon, k) == sum(c < epsilon for c in cosines[:k])


def test_a_direction_that_lies_at_the_threshold_is_no_intruder() -> None:
    rounded_below = False
    for cosine in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9):
        base, tuned = _planted([cosine] * 6)
        best = directions.best_cosines(directions.top_left_vectors(tuned, 6), directions.left_vectors(base))
        rounded_below |= bool(np.any(best < cosine))
        assert directions.count(best, cosine, 6) == 0
        assert directions.count(best, cosine + 1e-6, 6) == 6
    assert rounded_below, "no cosine was rounded below its threshold, so this shows nothing"


def test_sign_flips_and_the_order_of_the_base_do_not_matter() -> None:
    base, tuned = _planted([0.3, 0.8, 0.1])
    basis, found = directions.left_vectors(base), directions.top_left_vectors(tuned, 5)
    flipped = basis[:, ::-1] * np.where(np.arange(basis.shape[1]) % 3, 1.0, -1.0)
    assert directions.best_cosines(-found, flipped) == pytest.approx(directions.best_cosines(found, basis), abs=1e-15)


@pytest.mark.parametrize("shape", [(30, 30), (24, 60), (60, 24)])
def test_the_base_against_itself_has_no_intruders(shape: tuple[int, int]) -> None:
    base = np.random.default_rng(0).standard_normal(shape)
    best = directions.best_cosines(directions.top_left_vectors(base, 10), directions.left_vectors(base))
    assert best == pytest.approx(np.ones(10), abs=1e-12)
    assert directions.count(best, 0.99, 10) == 0


def test_the_gram_route_of_large_matrices_gives_the_same_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((96, 96), (90, 200), (200, 90)):
        rng = np.random.default_rng(3)
        base = rng.standard_normal(shape)
        tuned = base + 3 * np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))
        exact = directions.best_cosines(directions.top_left_vectors(tuned, 10), directions.left_vectors(base))
        with monkeypatch.context() as patch:
            patch.setattr(directions, "SMALL", 16)
            found = directions.best_cosines(directions.top_left_vectors(tuned, 10), directions.left_vectors(base))
        assert found == pytest.approx(exact, abs=1e-8)


def test_no_direction_lies_below_the_floor_of_a_square_base() -> None:
    size = 64
    assert directions.floor(size, size) == pytest.approx(0.125)
    evenly = _basis(size, 5) @ np.full((size, 1), size**-0.5)
    assert directions.best_cosines(evenly, _basis(size, 5)) == pytest.approx([directions.floor(size, size)])
    assert directions.random_cosines(size, size).min() > directions.floor(size, size)
    # A tall base leaves a complement, in which the largest cosine is 0.
    assert directions.floor(2 * size, size) == 0.0
    base, tuned = _planted([0.0])
    assert directions.best_cosines(directions.top_left_vectors(tuned, 1), directions.left_vectors(base)) < 1e-12


def test_chance_is_that_of_directions_drawn_and_compared() -> None:
    for rows, columns in ((50, 50), (120, 40), (40, 120)):
        rng = np.random.default_rng(8)
        basis = directions.left_vectors(rng.standard_normal((rows, columns)))
        drawn = rng.standard_normal((rows, 8000))
        best = directions.best_cosines(drawn / np.linalg.norm(drawn, axis=0), basis)
        for epsilon in (0.2, 0.3, 0.4, 0.5):
            share = float(np.mean(best < epsilon))
            assert directions.by_chance(rows, columns, epsilon, 10) == pytest.approx(10 * share, abs=0.2)


def test_chance_in_the_plane_and_in_space_is_the_closed_form() -> None:
    """max(|cos|, |sin|) < e on (4 asin(e) - pi) / pi of the circle, where e > 1 / sqrt(2)."""
    expected = (4 * np.arcsin(0.9) - np.pi) / np.pi
    assert directions.by_chance(2, 2, 0.9, 1) == pytest.approx(expected, abs=0.012)
    # With one base vector in n dimensions |cos| has the density (1 - x^2)^((n - 3) / 2).
    inside = integrate.quad(lambda x: (1 - x**2) ** 2.5, 0, 0.3)[0] / (0.5 * special.beta(0.5, 3.5))
    assert directions.by_chance(8, 1, 0.3, 1) == pytest.approx(inside, abs=0.012)


def test_at_the_paper_s_threshold_every_random_direction_of_a_real_model_counts() -> None:
    assert directions.by_chance(4096, 4096, 0.5, 10) == 10
    assert directions.by_chance(128, 128, 0.5, 10) > 9.9
    assert directions.by_chance(4096, 4096, 0.01, 10) == 0


def test_the_size_control_has_the_size_and_the_shape_and_no_structure() -> None:
    change = np.outer(np.arange(1.0, 31), np.ones(50))
    control = directions.equal_size(change, np.random.default_rng(0))
    assert control.shape == change.shape
    assert np.linalg.norm(control) == pytest.approx(np.linalg.norm(change))
    assert np.linalg.matrix_rank(control) == 30
    again = directions.equal_size(change, np.random.default_rng(0))
    assert np.array_equal(control, again)


@pytest.mark.parametrize("rank", [560, 5, 0])
def test_the_basis_of_a_tall_base_is_orthonormal_whatever_its_rank(rank: int) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((700, rank)) @ rng.standard_normal((rank, 560))
    found = directions.left_vectors(base)
    assert np.abs(found.T @ found - np.eye(560)).max() < 1e-10
    exact = np.linalg.svd(base, full_matrices=False)[0][:, : min(rank, 3)]
    assert directions.best_cosines(exact, found[:, :3]) == pytest.approx(np.ones(exact.shape[1]), abs=1e-6)
