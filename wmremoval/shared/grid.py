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
    """

    def __init__(self, unknown: np.ndarray):
        self.unknown, self.count = unknown, int(np.count_nonzero(unknown))
        self.number = np.full(unknown.shape, -1)
        self.number[unknown] = np.arange(self.count)

    def matrix(self, cost: Quadratic) -> csc_matrix:
        """The matrix of a cost over the unknown pixels."""
        rows, columns, values = [np.arange(self.count)], [np.arange(self.count)], [cost.diagonal[self.unknown]]
        for head, tail, coupling in zip(HEADS, TAILS, cost.couplings, strict=True):
            inside = self.unknown[head] & self.unknown[tail]
            one, other = self.number[head][inside], self.number[tail][inside]
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
        return right[self.unknown]

    def solve(self, cost: Quadratic, known: np.ndarray) -> np.ndarray:
        """The least of a cost; a copy of `known` in which only the unknown pixels differ."""
        solved = known.copy()
        solved[self.unknown] = splu(self.matrix(cost)).solve(self.right(cost, known))
        return solved

    def solve_with_log(self, cost: Quadratic, known: np.ndarray, count: float, steps: int) -> np.ndarray:
        """The least of a cost less `count` log x at each unknown pixel, by Newton's method from `known` (h, w)."""
        matrix, right, x = self.matrix(cost), self.right(cost, known), known[self.unknown].astype(np.float64)
        for _ in range(steps):
            gradient = matrix @ x - right - count / x
            step = splu((matrix + diags(count / x**2)).tocsc()).solve(gradient)
            x = np.maximum(x - step, x / 2)  # x stays positive
        solved = known.copy()
        solved[self.unknown] = x
        return solved
