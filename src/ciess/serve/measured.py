"""The measurement of a compressed model on held-out interactions, matched by ids."""

import dataclasses
import logging

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch.nn.functional import pad

from ciess.data import Interactions
from ciess.data.ids import inverse
from ciess.evaluation.metrics import Evaluation, Evaluator, Score
from ciess.serve.packed_model import PackedModel

_log = logging.getLogger(__name__)


def measured(model: PackedModel, score: Score, held_out: Interactions, k: int) -> Evaluation:
    """Rank the k best of the items that users do not have and those held out, see `CompressedModel.evaluate`.

    Of equal scores, as of users of whom nothing was learned, the item that the set has earlier comes first: in the
    order of the packed rows the one with the larger row would, often the more popular one.

    Args:
        model: whose rows are measured.
        score: from rows of its users to scores of all its items.
        held_out: over ids of its own; the rows and columns of the result are its.
        k: how many items are ranked.

    Raises:
        InputError: no user of the set is known.
    """
    rows = model.user_index.rows(held_out.user_ids.to_numpy())
    packed = model.item_index.rows(held_out.item_ids.to_numpy())
    order = _order(packed, model.item_index.order)
    columns = np.where(packed >= 0, inverse(order, len(order))[packed], -1)
    seen, learned = model._seen_matrix[:, order], model.interactions.matrix[:, order]
    pairs = np.stack([rows[held_out.users], columns[held_out.items]])
    pairs = pairs[:, (pairs >= 0).all(0)]
    truth = csr_array((np.ones(pairs.shape[1], dtype=np.float32), tuple(pairs)), shape=seen.shape)
    if again := int(learned.multiply(truth).nnz):
        _log.warning(
            "the model has learned %d of the %d held-out interactions: measure it on others, "
            "or take one of search(..., refit=False)",
            again,
            truth.nnz,
        )
    left_out = seen - seen.multiply(truth)
    left_out.eliminate_zeros()
    known, counts = rows >= 0, np.zeros(seen.shape[0], dtype=np.int64)
    if unknown := int((held_out.user_counts[~known] > 0).sum()):
        _log.warning("%d users are not measured: the model does not know them", unknown)
    # Items that the model does not know count, too: it misses them.
    counts[rows[known]] = held_out.user_counts[known]
    in_order = torch.from_numpy(order)
    found = Evaluator(left_out, truth, k, rows[known], counts, learned)(lambda users: score(users)[:, in_order])
    of_row, of_column = (
        torch.from_numpy(inverse(places, n)) for places, n in zip((rows, columns), seen.shape, strict=True)
    )
    ranked = torch.where(found.items >= 0, of_column[found.items], -1)
    # A set of more items than the model has may want more ranks than there are: nothing is there.
    missing = (0, max(0, min(k, held_out.n_items) - ranked.shape[1]))
    return dataclasses.replace(
        found,
        users=of_row[found.users],
        items=pad(ranked, missing, value=-1),
        hits=pad(found.hits, missing),
        n_items=held_out.n_items,
    )


def _order(packed: NDArray[np.int64], by_id: NDArray[np.integer]) -> NDArray[np.int64]:
    """(n_items,) packed rows in the order of a set's items, then those that it does not know, by their ids.

    Args:
        packed: the packed row of each item of the set; −1 where there is none.
        by_id: (n_items,) packed rows in order of rising id.
    """
    known = packed[packed >= 0]
    others = np.ones(len(by_id), dtype=bool)
    others[known] = False
    return np.concatenate([known, by_id[others[by_id]]])
