"""The order of dimensions: turn a trained model so that the first numbers of every row matter most."""

import torch
from torch import Tensor

_OF_COMMON = 1e-4
_ROUNDING = 1e-12


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


def balancing(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """What two tables are multiplied by, so that both get columns of the same falling energy; scores stay the same.

    These are the singular vectors of the scores, times the roots of the singular values: cutting both tables after d
    columns loses the least of all. What all items have in common ranks none of them and hardly counts. Whatever basis
    and scale the tables come in, they end in one.

    Args:
        users: (n, dim) rows of users.
        items: (m, dim) rows of items.

    Returns:
        (dim, dim) matrices for the users and for the items, of the tables' type.
    """
    common = items.double().mean(0, keepdim=True)
    apart = items.double() - common
    of_items = apart.T @ apart + _OF_COMMON * len(items) * common.T @ common
    values, basis = _decomposed(users.double().T @ users.double())
    root, inverse = basis * values.sqrt(), basis * _inverse(values).sqrt()
    energy, turn = _decomposed(root.T @ of_items @ root)
    for_users, for_items = inverse @ turn * energy**0.25, root @ turn * _inverse(energy) ** 0.25
    # Signs are arbitrary: the users' means shall be positive.
    sign = torch.where(users.double().mean(0) @ for_users < 0, -1.0, 1.0)
    return (sign * for_users).to(users.dtype), (sign * for_items).to(items.dtype)


def _decomposed(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in falling order, 0 where they are none but for rounding, and their vectors."""
    values, vectors = (each.flip(-1) for each in torch.linalg.eigh(gram))
    return values.where(values > _ROUNDING * values[0], 0.0), vectors


def _inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 for 0."""
    return torch.where(values > 0, 1 / values, 0.0)
