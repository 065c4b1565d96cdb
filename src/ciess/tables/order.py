"""The order of dimensions: turn a trained model so that the first numbers of every row matter most."""

import torch
from torch import Tensor


def importance_rotation(users: Tensor) -> Tensor:
    """The rotation after which the columns of `users` come in order of falling energy.

    Scores that are inner products of users and items stay the same when both are multiplied by it,
    and cutting every row of `users` after d columns then loses the least squared error of all rotations.

    Args:
        users: (n, dim) the user vectors that are scored.

    Returns:
        (dim, dim) orthogonal matrix, of users' type.
    """
    return rotation_by(users.double().T @ users.double()).to(users.dtype)


def rotation_by(gram: Tensor) -> Tensor:
    """The same by the users' (dim, dim) Gramian in float64, and of its type."""
    rotation = torch.linalg.eigh(gram).eigenvectors.flip(1)
    # An eigenvector's sign is arbitrary: fix it, so that the same model is always ordered the same way.
    sign = rotation.gather(0, rotation.abs().argmax(0, keepdim=True)).sign()
    ordered: Tensor = rotation * sign
    return ordered
