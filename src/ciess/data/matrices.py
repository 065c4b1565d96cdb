"""Sparse matrices: read from files, and checked before compiled code follows their indices."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse import csr_array, sparray, spmatrix

from ciess.data.foreign import arrays_in
from ciess.errors import InputError, refused

_INDICES = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "bsr": ("indices", "indptr"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}
"""Names of the index arrays of each format, as `scipy.sparse.save_npz` writes them."""
_ROWS, _ROWS_A_VALUE = 10**7, 1000


def matrix_in(path: Path) -> sparray:
    """The matrix that `scipy.sparse.save_npz` wrote.

    Raises:
        InputError: the file holds none.
    """
    with refused(f"{path} holds no sparse matrix", "write it with scipy.sparse.save_npz"):
        arrays = arrays_in(path)
        form = arrays["format"].item()
        form = form.decode() if isinstance(form, bytes) else form
        data, shape, *indices = (arrays[name] for name in ("data", "shape", *_INDICES[form]))
        if not all(each.dtype.kind in "iu" for each in (shape, *indices)):
            raise ValueError("its indices are no whole numbers")
        where = tuple(indices) if form != "coo" else (tuple(indices),)
        return getattr(scipy.sparse, f"{form}_array")((data, *where), shape=tuple(shape.tolist()))


def as_csr(matrix: sparray | spmatrix) -> csr_array:
    """A matrix of users × items in CSR form.

    Raises:
        InputError: not two axes, far more rows or columns than there are values, or indices beyond the matrix.
    """
    if matrix.ndim != 2:
        raise InputError(f"the matrix has {matrix.ndim} dimension: give one of users × items")
    if max(matrix.shape) > max(_ROWS, _ROWS_A_VALUE * matrix.nnz):
        rows, columns = matrix.shape
        raise InputError(
            f"the matrix has {rows:,} rows and {columns:,} columns for {matrix.nnz:,} values: "
            "leave out those without any, and give ids to the others"
        )
    with refused(f"the matrix is no valid {matrix.format.upper()} matrix", "build it anew"):
        if matrix.format in ("csr", "csc", "bsr"):
            _check_indices(matrix)
        elif matrix.format == "coo":
            # It may have been changed since SciPy checked it.
            matrix = type(matrix)((matrix.data, matrix.coords), shape=matrix.shape)
        if matrix.format in _INDICES:
            # Before what stands at one place is summed.
            check_values(matrix.data)
        if matrix.dtype.kind in "biu":
            # SciPy sums what stands at one place in the matrix' own type, in which 256 ones may be 0.
            matrix = matrix.astype(np.float32)
        return csr_array(matrix)


def check_values(values: NDArray[Any]) -> None:
    """Refuse what is no number of interactions.

    Raises:
        InputError: some are negative, infinite or no numbers.
    """
    if values.dtype.kind not in "biuf" or not (np.isfinite(values) & (values >= 0)).all():
        raise InputError("the matrix holds values that are negative or not numbers: interactions are above 0")


def _check_indices(matrix: Any) -> None:
    """Refuse offsets that fall or lead beyond the indices, and indices beyond the matrix: compiled code trusts them.

    Raises:
        ValueError: naming what is wrong.
    """
    blocks = [n // size for n, size in zip(matrix.shape, getattr(matrix, "blocksize", (1, 1)), strict=True)]
    outer, inner = blocks[::-1] if matrix.format == "csc" else blocks
    offsets: NDArray[Any] = matrix.indptr
    indices: NDArray[Any] = matrix.indices
    for name, each in (("indptr", offsets), ("indices", indices)):
        if each.ndim != 1 or each.dtype.kind not in "iu":
            raise ValueError(f"{name} are no list of whole numbers")
    if len(offsets) != outer + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ValueError(f"indptr must be {outer + 1:,} offsets that rise from 0")
    if offsets[-1] > len(indices) or len(indices) != len(matrix.data):
        raise ValueError("indptr, indices and data are not of one length")
    if len(indices) and not (indices.min() >= 0 and indices.max() < inner):
        raise ValueError(f"indices must be from 0 to {inner - 1:,}")
