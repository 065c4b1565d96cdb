"""Methods side by side: `compare` and what it gives back."""

from ciess.comparison.results import Comparison
from ciess.comparison.run import compare

__all__ = ["Comparison", "compare"]
