"""The graph of users and items: its matrices, and products with them."""

import numpy as np
import torch
from scipy.sparse import block_array, csr_array, diags_array, eye_array
from torch import Tensor


def normalised_adjacency(interactions: csr_array) -> Tensor:
    """(users + items)² sparse CSR tensor D^−½ A D^−½, symmetric, int32 indices where they fit."""
    degrees = [np.maximum(interactions.sum(axis), 1).astype(np.float64) for axis in (1, 0)]
    left, right = (diags_array(degree**-0.5) for degree in degrees)
    return sparse_tensor(_both_ways(left @ interactions @ right))


def averaging_adjacency(interactions: csr_array) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of a node and its neighbours, D⁻¹(A + I), D counting the node itself.

    Returns:
        The matrix and its transpose, (users + items)² sparse CSR tensors of one pattern, and (entries,) where in the
        matrix each entry of the transpose stands.
    """
    neighbours = _both_ways(interactions)
    adjacency = csr_array(neighbours + eye_array(neighbours.shape[0]))
    adjacency.data = np.repeat(1 / np.diff(adjacency.indptr), np.diff(adjacency.indptr))
    adjacency.sort_indices()
    places = csr_array((np.arange(adjacency.nnz), adjacency.indices, adjacency.indptr), shape=adjacency.shape)
    transposed = csr_array(places.T)
    transposed.sort_indices()
    matrix = sparse_tensor(adjacency)
    mirror = torch.from_numpy(transposed.data).to(matrix.col_indices().dtype)
    return matrix, with_values(matrix, matrix.values().index_select(0, mirror)), mirror


def sparse_tensor(matrix: csr_array) -> Tensor:
    """A float32 sparse CSR tensor of a matrix, with int32 indices where they fit."""
    matrix.sort_indices()
    index = np.int32 if matrix.nnz < 2**31 else np.int64
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(index)),
        torch.from_numpy(matrix.indices.astype(index)),
        torch.from_numpy(matrix.data.astype(np.float32)),
        size=matrix.shape,
        check_invariants=False,
    )


def with_values(matrix: Tensor, values: Tensor) -> Tensor:
    """A sparse CSR matrix of the same pattern with other values."""
    return torch.sparse_csr_tensor(
        matrix.crow_indices(), matrix.col_indices(), values, size=matrix.shape, check_invariants=False
    )


def hop(adjacency: Tensor, transposed: Tensor, layer: Tensor) -> Tensor:
    """The product of a sparse matrix with rows (n, width), whose gradient is one with the transposed matrix."""
    product: Tensor = _Hop.apply(adjacency, transposed, layer)  # type: ignore[no-untyped-call]
    return product


def _both_ways(block: csr_array) -> csr_array:
    """Users and items in one matrix: an edge there and back for every entry of the users × items block."""
    return csr_array(block_array([[None, block], [block.T, None]]))


class _Hop(torch.autograd.Function):
    """PyTorch would transpose the matrix anew in every backward pass."""

    @staticmethod
    def forward(ctx, adjacency, transposed, layer):  # type: ignore[no-untyped-def]
        ctx.transposed = transposed
        return adjacency @ layer

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return None, None, ctx.transposed @ gradient
