"""Kernel ridge regression over sparse documents: the training half of the shortlist."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Indices = NDArray[np.int32]
Column = tuple[Indices, Vector]
"""The documents that have one feature, and how strongly each has it."""

_FREQUENT = 64
"""Documents from which on a feature is multiplied as a dense column: the pairs that it adds to grow with the
square of their number, and a matrix product makes pairs some hundred times faster."""
_COLUMNS = 1024
_ROWS = 512


def similarities(columns: Iterable[Column], count: int) -> Vector:
    """Return the inner product of every document with every other, shape (count, count)."""
    kernel = np.zeros((count, count), np.float32)
    frequent: list[Column] = []
    for numbers, weights in columns:
        if len(numbers) > _FREQUENT:
            frequent.append((numbers, weights))
        else:
            kernel[numbers[:, None], numbers] += weights[:, None] * weights
    for first in range(0, len(frequent), _COLUMNS):
        _add_products(kernel, frequent[first : first + _COLUMNS])
    return kernel


def _add_products(kernel: Vector, columns: list[Column]) -> None:
    dense = np.zeros((len(kernel), len(columns)), np.float32)
    for index, (numbers, weights) in enumerate(columns):
        dense[numbers, index] = weights
    for row in range(0, len(kernel), _ROWS):  # a product of all rows would be as large as the kernel itself
        kernel[row : row + _ROWS] += dense[row : row + _ROWS] @ dense.T


def fit(kernel: Vector, wanted: Vector, ridge: float) -> Vector:
    """Return the dual weights of least squares with ``wanted``, shape (documents, classes), as the outputs.

    The outputs for a new document are its similarities to all documents times these weights (Rifkin &
    Lippert 2003). ``kernel``, shape (documents, documents), is overwritten with a Cholesky factor.
    """
    kernel[np.diag_indices_from(kernel)] += np.float32(ridge)
    weights = wanted.copy()
    _factorise(kernel)
    _substitute(kernel, weights)
    return weights


def residuals(factor: Vector, weights: Vector) -> Vector:
    """Return by how much each document's outputs miss what is wanted when it is left out, shape (documents,
    classes): its ``weights`` over the diagonal of the regularised kernel's inverse (Rifkin & Lippert 2007).

    ``factor`` is what ``fit`` overwrote the kernel with.
    """
    diagonal = np.zeros(len(factor), np.float32)
    for here in _blocks(len(factor)):
        columns = np.zeros((len(factor) - here.start, here.stop - here.start), np.float32)
        columns[np.diag_indices(columns.shape[1])] = 1.0
        _substitute_forward(factor[here.start :, here.start :], columns)
        diagonal[here] = np.einsum("ij,ij->j", columns, columns)
    missed: Vector = weights / diagonal[:, None]
    return missed


def outputs(inputs: Vector, weights: Vector) -> Vector:
    """Return ``inputs``, shape (n,), times ``weights``, shape (n, classes).

    Not with ``@``: BLAS shares so small a product among threads that wait for each other. On a machine whose
    cores are busy that takes 16 ms instead of 0.3, and two idle ones save it 0.2.
    """
    product: Vector = np.einsum("i,ij->j", inputs, weights)
    return product


def targets(classes: Indices, class_count: int) -> Vector:
    """Return a 1 for each document's class and else 0, shape (documents, class_count)."""
    wanted = np.zeros((len(classes), class_count), np.float32)
    wanted[np.arange(len(classes)), classes] = 1.0
    return wanted


def _blocks(size: int) -> list[slice]:
    return [slice(first, min(first + _ROWS, size)) for first in range(0, size, _ROWS)]


def _factorise(matrix: Vector) -> None:
    """Overwrite the lower triangle with its Cholesky factor, block by block (Golub & Van Loan, 4.2.9).

    numpy.linalg.solve takes four times the memory of the matrix, and twice the time for want of symmetry.
    """
    blocks = _blocks(len(matrix))
    for done, here in enumerate(blocks):
        matrix[here, here] = np.linalg.cholesky(matrix[here, here])
        upwards = np.linalg.inv(matrix[here, here]).T
        for row in blocks[done + 1 :]:
            matrix[row, here] = matrix[row, here] @ upwards
        for row in blocks[done + 1 :]:
            matrix[row, here.stop : row.stop] -= matrix[row, here] @ matrix[here.stop : row.stop, here].T


def _substitute(factor: Vector, wanted: Vector) -> None:
    """Overwrite ``wanted`` with the solution of (L L^T) x = ``wanted``; L is ``factor``'s lower triangle."""
    _substitute_forward(factor, wanted)
    for here in reversed(_blocks(len(factor))):
        wanted[here] -= factor[here.stop :, here].T @ wanted[here.stop :]
        wanted[here] = np.linalg.solve(factor[here, here].T, wanted[here])


def _substitute_forward(factor: Vector, wanted: Vector) -> None:
    """Overwrite ``wanted`` with the solution of L x = ``wanted``."""
    for here in _blocks(len(factor)):
        wanted[here] -= factor[here, : here.start] @ wanted[: here.start]
        wanted[here] = np.linalg.solve(factor[here, here], wanted[here])
