"""The measurement of a compressed model on held-out interactions, matched by ids."""

import dataclasses
import logging

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.nn.functional import pad

from ciess.data import Interactions
from ciess.data.ids import inverse
from ciess.evaluation.metrics import Evaluation, Evaluator, Score
from ciess.serve.packed_model import PackedModel

_log = logging.getLogger(__name__)


def measured(model: PackedModel, score: Score, held_out: Interactions, k: int) -> Evaluation:
    """Rank the k best of the items that users do not have and those held out, see `CompressedModel.evaluate`.

    Args:
        model: whose rows are measured.
        score: from rows of its users to scores of all its items.
        held_out: over ids of its own; the rows and columns of the result are its.
        k: how many items are ranked.

    Raises:
        InputError: no user of the set is known.
    """
    seen, learned = model._seen_matrix, model.interactions.matrix
    rows = model.user_index.rows(held_out.user_ids.to_numpy())
    columns = model.item_index.rows(held_out.item_ids.to_numpy())
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
    found = Evaluator(left_out, truth, k, rows[known], counts, learned)(score)
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
