"""What comes in: interactions, readers, splits, sampling, a synthetic set."""

from ciess.data.interactions import Interactions
from ciess.data.readers import read
from ciess.data.split import Split, split_by_time, split_given, split_last, split_random
from ciess.data.synthetic import Synthetic, synthetic

__all__ = [
    "Interactions",
    "Split",
    "Synthetic",
    "read",
    "split_by_time",
    "split_given",
    "split_last",
    "split_random",
    "synthetic",
]
