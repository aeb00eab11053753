"""Sparse linear systems over the unknown pixels of a grid; all other pixels are known."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.linalg import splu

HEADS = np.s_[:-1, :], np.s_[:, :-1]  # the first pixel of each edge between neighbours: downwards, to the right
TAILS = np.s_[1:, :], np.s_[:, 1:]  # the second one


class Quadratic(NamedTuple):
    """The gradient of a quadratic cost over pixels: `diagonal` x minus `coupling` times each neighbour, minus `right`."""

    diagonal: np.ndarray  # (h, w)
    couplings: tuple[np.ndarray, np.ndarray]  # of each edge: (h - 1, w) downwards and (h, w - 1) to the right
    right: np.ndarray  # (h, w) or (h, w, c)


class Grid:
    """The unknown pixels of a picture.

    Args:
        unknown: (h, w) boolean.
        tied: (h, w) boolean: the unknown pixels that share one value; None: each pixel has its own.
    """

    def __init__(self, unknown: np.ndarray, tied: np.ndarray | None = None):
        tied = np.zeros_like(unknown) if tied is None else unknown & tied
        single = unknown & ~tied
        first = int(np.count_nonzero(single))
        numbers = np.full(unknown.shape, -1)
        numbers[single], numbers[tied] = np.arange(first), first
        self.unknown, self.numbers = unknown, numbers
        self.number = numbers[unknown]  # of the unknown that each pixel has
        self.count = first + int(tied.any())

    def matrix(self, cost: Quadratic) -> csc_matrix:
        """The matrix of a cost over the unknown pixels."""
        rows, columns, values = [self.number], [self.number], [cost.diagonal[self.unknown]]
        for head, tail, coupling in zip(HEADS, TAILS, cost.couplings, strict=True):
            inside = self.unknown[head] & self.unknown[tail]
            one, other = self.numbers[head][inside], self.numbers[tail][inside]
            rows += [one, other]
            columns += [other, one]
            values += [-coupling[inside]] * 2
        places = np.concatenate(rows), np.concatenate(columns)
        return coo_matrix((np.concatenate(values), places), (self.count,) * 2).tocsc()

    def right(self, cost: Quadratic, known: np.ndarray) -> np.ndarray:
        """The right-hand side, (n,) or (n, c); the known pixels have the values of `known` (h, w) or (h, w, c)."""
        right = np.array(cost.right, np.float64)
        values = np.where(self.unknown.reshape(self.unknown.shape + (1,) * (known.ndim - 2)), 0.0, known)
        for head, tail, coupling in zip(HEADS, TAILS, cost.couplings, strict=True):
            weight = coupling.reshape(coupling.shape + (1,) * (known.ndim - 2))
            right[head] += weight * values[tail]
            right[tail] += weight * values[head]
        return self._summed(right[self.unknown])

    def solve(self, cost: Quadratic, known: np.ndarray) -> np.ndarray:
        """The least of a cost; a copy of `known` in which only the unknown pixels differ."""
        solved = known.copy()
        solved[self.unknown] = splu(self.matrix(cost)).solve(self.right(cost, known))[self.number]
        return solved

    def solve_with_log(self, cost: Quadratic, known: np.ndarray, counts: np.ndarray, steps: int) -> np.ndarray:
        """The least of a cost less `counts` log x, both (h, w), at each unknown pixel, by Newton's method from `known` (h, w)."""
        matrix, right, count = self.matrix(cost), self.right(cost, known), self._summed(counts[self.unknown])
        x = self._summed(known[self.unknown]) / self._summed(np.ones(len(self.number)))
        for _ in range(steps):
            gradient = matrix @ x - right - count / x
            step = splu((matrix + diags(count / x**2)).tocsc()).solve(gradient)
            x = np.maximum(x - step, x / 2)  # x stays positive
        solved = known.copy()
        solved[self.unknown] = x[self.number]
        return solved

    def _summed(self, values: np.ndarray) -> np.ndarray:
        """Values of the unknown pixels, (n,) or (n, c); those of the tied ones are added up."""
        total = np.zeros((self.count, *values.shape[1:]))
        np.add.at(total, self.number, values)
        return total
