"""Sparse systems over the unknown pixels: against dense matrices and a general minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize

from wmremoval.shared.grid import HEADS, TAILS, Grid, Quadratic


@pytest.fixture
def problem():
    """A convex cost of 5 x 6 pixels, of which some are unknown."""
    rng = np.random.default_rng(0)
    couplings = rng.uniform(0.1, 1.0, (4, 6)), rng.uniform(0.1, 1.0, (5, 5))
    diagonal = rng.uniform(0.1, 0.5, (5, 6))
    for head, tail, coupling in zip(HEADS, TAILS, couplings, strict=True):
        diagonal[head] += coupling
        diagonal[tail] += coupling
    unknown = np.zeros((5, 6), bool)
    unknown[1:4, 1:5] = True
    unknown[2, 2] = False
    return Quadratic(diagonal, couplings, rng.normal(size=(5, 6))), unknown, rng.uniform(0.5, 2.0, (5, 6))


def cost_of(cost: Quadratic, x: np.ndarray) -> float:
    """The cost itself, summed pixel by pixel."""
    total = float((0.5 * cost.diagonal * x**2 - cost.right * x).sum())
    for (down, right), coupling in zip(((1, 0), (0, 1)), cost.couplings, strict=True):
        for i in range(coupling.shape[0]):
            for j in range(coupling.shape[1]):
                total -= coupling[i, j] * x[i, j] * x[i + down, j + right]
    return total


def least(cost, unknown, known, count=0.0):
    def value(inner):
        x = known.copy()
        x[unknown] = inner
        return cost_of(cost, x) - count * float(np.log(inner).sum() if count else 0.0)

    bounds = [(1e-6, None)] * int(unknown.sum()) if count else None
    return minimize(value, known[unknown], bounds=bounds, tol=1e-10).x


def test_the_solution_is_the_least_of_the_cost_and_known_pixels_stay(problem):
    cost, unknown, known = problem
    solved = Grid(unknown).solve(cost, known)
    np.testing.assert_array_equal(solved[~unknown], known[~unknown])
    np.testing.assert_allclose(solved[unknown], least(cost, unknown, known), atol=1e-4)


def test_with_a_logarithm_newton_finds_the_same_as_a_general_minimiser(problem):
    cost, unknown, known = problem
    solved = Grid(unknown).solve_with_log(cost, known, np.full(known.shape, 2.5), 12)
    np.testing.assert_allclose(solved[unknown], least(cost, unknown, known, 2.5), atol=1e-4)


def test_tied_pixels_share_the_value_that_a_general_minimiser_finds_for_all_of_them(problem):
    cost, unknown, known = problem
    tied = np.zeros_like(unknown)
    tied[1, 1:4] = tied[2, 3] = True
    single, counts = unknown & ~tied, np.where(tied, 3.0, 2.0)

    def value(inner):
        x = known.copy()
        x[single], x[tied] = inner[1:], inner[0]
        return cost_of(cost, x) - float((counts * np.log(x))[unknown].sum())

    best = minimize(value, np.ones(1 + single.sum()), bounds=[(1e-6, None)] * int(1 + single.sum()), tol=1e-10).x
    solved = Grid(unknown, tied).solve_with_log(cost, known, counts, 15)
    np.testing.assert_allclose(solved[tied], best[0], atol=1e-4)
    np.testing.assert_allclose(solved[single], best[1:], atol=1e-4)
    np.testing.assert_array_equal(solved[~unknown], known[~unknown])


def test_three_channels_are_solved_each_by_itself(problem):
    cost, unknown, known = problem
    three = Quadratic(cost.diagonal, cost.couplings, np.dstack([cost.right, 2 * cost.right, -cost.right]))
    solved = Grid(unknown).solve(three, np.dstack([known, 2 * known, -known]))
    one = Grid(unknown).solve(cost, known)
    np.testing.assert_allclose(solved, np.dstack([one, 2 * one, -one]), atol=1e-9)
