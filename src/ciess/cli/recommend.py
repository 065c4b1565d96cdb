"""`ciess recommend`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from ciess.cli.options import AsJson, Flag, option


@dataclass(frozen=True)
class Recommend:
    """Recommend items to users with a saved model."""

    model: tyro.conf.Positional[Path]
    """A folder that `ciess search` saved, such as runs/search/budget-5."""
    users: Annotated[tuple[str, ...], option("ID ...")]
    """Ids of users."""
    k: Annotated[int, tyro.conf.arg(metavar="N", aliases=["-k"])] = 10
    """How many items for each."""
    include_seen: Flag = False
    """Recommend items that the user has already, too."""
    json: AsJson = False

    def run(self, console: Console) -> None:
        """Print a line for each user."""
        from ciess.serve.saved import load

        model = load(self.model)
        items, scores = model.recommend(list(self.users), self.k, exclude_seen=not self.include_seen)
        rankings = [
            {
                "user": user,
                "known": known,
                "items": [item for item in row if item is not None],
                # Users that are not known have no scores, and JSON no NaN.
                "scores": [score for item, score in zip(row, values, strict=True) if known and item is not None],
            }
            for user, known, row, values in zip(
                self.users, model.known(self.users).tolist(), items.tolist(), scores.tolist(), strict=True
            )
        ]
        if self.json:
            print(json.dumps(rankings, indent=1))
            return
        for ranking in rankings:
            _show(ranking, console)


def _show(ranking: dict[str, Any], console: Console) -> None:
    told = ranking["items"]
    if ranking["known"]:
        told = [f"{item} ({score:.3f})" for item, score in zip(told, ranking["scores"], strict=True)]
    note = "" if ranking["known"] else " (unknown user: popular items)"
    line = f"{ranking['user']}{note}: {', '.join(map(str, told))}"
    console.print(line, highlight=False, soft_wrap=True, markup=False)
