"""`ciess recommend`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ciess.cli.options import Output


@dataclass(frozen=True)
class Recommend(Output):
    """Recommend items to users with a saved model."""

    model: tyro.conf.Positional[Path]
    """A folder that `ciess search` saved, such as runs/search/budget-5."""
    users: tuple[str, ...]
    """Ids of users."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """How many items for each."""
    include_seen: bool = False
    """Recommend items that the user has already, too."""

    def run(self, console: Console) -> None:
        """Print a line for each user."""
        from ciess.saved import load

        model = load(self.model)
        items, scores = model.recommend(list(self.users), self.k, exclude_seen=not self.include_seen)
        if self.json:
            ranked = zip(self.users, items.tolist(), scores.tolist(), strict=True)
            print(json.dumps([{"user": user, "items": row, "scores": values} for user, row, values in ranked]))
            return
        for user, known, row, values in zip(self.users, model.known(list(self.users)), items, scores, strict=True):
            found = [f"{item} ({score:.3f})" if known else str(item) for item, score in zip(row, values, strict=True)]
            told = ", ".join(entry for entry, item in zip(found, row, strict=True) if item is not None)
            note = "" if known else " (unknown user: popular items)"
            console.print(f"{user}{note}: {told}", highlight=False, soft_wrap=True, markup=False)
