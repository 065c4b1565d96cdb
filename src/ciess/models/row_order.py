"""Whether a model can be packed: packed rows lie in an order of their own."""

import torch

from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models.base import Backbone, BackboneConfig

_USERS = 3


@torch.no_grad()
def check_row_order(backbone: Backbone, config: BackboneConfig, train: Interactions) -> None:
    """Score a few users with all rows turned upside down, as packing might order them.

    Args:
        backbone: trained, so that what it has learned beside its tables tells.
        config: what built it.
        train: what it was built for.

    Raises:
        InputError: scores follow from where a row lies: something that each user or item has one of is kept apart.
    """
    matrix = train.matrix[::-1][:, ::-1]
    matrix.sort_indices()
    turned = Interactions(matrix, train.user_ids.reverse(), train.item_ids.reverse())
    other = config.skeleton(turned)
    kept = backbone.beside_tables
    for name, weights in other.beside_tables.items():
        weights.copy_(kept[name])
    users = torch.arange(min(_USERS, train.n_users))
    vectors = other.eval().vectors(backbone.user_table.flip(0), backbone.item_table.flip(0))
    scores = backbone.score_all(backbone.vectors(), users)
    found = other.score_all(vectors, (train.n_users - 1 - users).flip(0)).flip(0, 1)
    if not torch.allclose(scores, found, rtol=1e-3, atol=1e-3 * float(scores.std())):
        raise InputError(
            f"{type(backbone).__name__} scores rows by where they lie, and packing moves them: "
            "keep what each user or item has one of, such as a bias, in the first number of its row"
        )
