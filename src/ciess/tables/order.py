"""The order of dimensions: turn a trained model so that the first numbers of every row matter most."""

import torch
from torch import Tensor
from torch.nn.functional import pad

_ROUNDING = 1e-12
"""Of the largest singular value, what is none."""


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


def balanced(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with the same inner products, and columns of the same falling energy on both sides.

    They are the singular vectors of the scores, times the roots of the singular values: cut after d columns, both
    tables lose the least of all. Whatever basis and scale the tables come in, they end in one.

    Args:
        users: (n, dim) rows of users.
        items: (m, dim) rows of items.

    Returns:
        Tables of the same shapes and types.
    """
    user_basis, user_part = torch.linalg.qr(users.double())
    left, values, _ = torch.linalg.svd(user_part @ torch.linalg.qr(items.double(), mode="r").R.T, full_matrices=False)
    kept = values > _ROUNDING * values[0]
    left, roots = left[:, kept], values[kept].sqrt()
    found = user_basis @ left * roots, items.double() @ user_part.T @ left / roots
    # Signs are arbitrary: the users' means shall be positive.
    sign = torch.where(found[0].mean(0) < 0, -1.0, 1.0)
    missing = (0, users.shape[1] - len(roots))
    return pad(found[0] * sign, missing).to(users.dtype), pad(found[1] * sign, missing).to(items.dtype)
