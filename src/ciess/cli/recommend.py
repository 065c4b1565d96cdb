"""`ciess recommend`."""

import itertools
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from ciess.checks import Positive, check
from ciess.cli.options import AsJson, Flag, option
from ciess.errors import InputError
from ciess.escapes import printable

if TYPE_CHECKING:
    from ciess.serve.model import CompressedModel


_USERS_AT_ONCE = 1_000
"""So that lines come while others are scored, and memory is bounded."""


@dataclass(frozen=True)
class Recommend:
    """Recommend items to users with a saved model."""

    model: tyro.conf.Positional[Path]
    """A folder that `ciess search` saved, such as runs/search/budget-5"""
    users: Annotated[tuple[str, ...], option("ID ...")] = ()
    """Ids of users"""
    users_from: Annotated[Path | None, option("FILE")] = None
    """In place of --users: ids one a line, .npy, .csv or .parquet; - is the input"""
    items: Annotated[tuple[str, ...], option("ID ...")] = ()
    """In place of users: what somebody has whom the model does not know"""
    k: Annotated[int, tyro.conf.arg(metavar="N", aliases=["-k"], help_behavior_hint="[10]")] = 10
    """How many items for each"""
    include_seen: Flag = False
    """Recommend items that the user has already, too"""
    json: AsJson = False

    def run(self, console: Console) -> None:
        """Print a line for each user."""
        from ciess.serve.saved import load

        check("-k", self.k, Positive)
        users = [] if self.items else self._users()
        model = load(self.model)
        rankings: Iterator[dict[str, Any]] = itertools.chain.from_iterable(
            self._ranked(model, users[start : start + _USERS_AT_ONCE]) for start in range(0, len(users), _USERS_AT_ONCE)
        )
        if self.items:
            rankings = iter([self._for_items(model)])
        if self.json:
            print(json.dumps(list(rankings), indent=1))
        else:
            for ranking in rankings:
                print(printable(_line(ranking)))

    def _users(self) -> list[str]:
        import polars as pl

        from ciess.data.id_files import ids_in, ids_of_lines

        if self.users and self.users_from:
            raise InputError("--users and --users-from are both given: leave one out")
        if self.users_from is None:
            users = list(self.users)
        elif str(self.users_from) == "-":
            users = ids_of_lines(sys.stdin.read()).to_list()
        else:
            users = ids_in(self.users_from, "user", counted=False).cast(pl.String).to_list()
        users = [user for user in users if user]
        if not users:
            raise InputError(
                "no users are given: name ids by --users ID ..., a file of ids by --users-from FILE, or --items ID ..."
            )
        return users

    def _for_items(self, model: "CompressedModel") -> dict[str, Any]:
        if self.users or self.users_from:
            raise InputError("--items and users are both given: leave one out")
        items, scores = model.recommend(items=self.items, k=self.k, exclude_seen=not self.include_seen)
        known = not any(map(math.isnan, scores.tolist()))
        ranking = {"user": None, "has": list(self.items), "known": known}
        return ranking | _row(items.tolist(), scores.tolist(), known)

    def _ranked(self, model: "CompressedModel", users: list[str]) -> Iterator[dict[str, Any]]:
        items, scores = model.recommend(users, self.k, exclude_seen=not self.include_seen)
        known = model.known(users).tolist()
        for user, is_known, row, values in zip(users, known, items.tolist(), scores.tolist(), strict=True):
            yield {"user": user, "known": is_known} | _row(row, values, is_known)


def _row(items: list[Any], scores: list[float], known: bool) -> dict[str, Any]:
    """A ranking's items, and their scores; users that are not known have none, and JSON no NaN."""
    there = [(item, score) for item, score in zip(items, scores, strict=True) if item is not None]
    return {"items": [item for item, _ in there], "scores": [score for _, score in there] if known else []}


def _line(ranking: dict[str, Any]) -> str:
    told = ranking["items"]
    if ranking["known"]:
        told = [f"{item} ({score:.3f})" for item, score in zip(told, ranking["scores"], strict=True)]
    who = ranking["user"] if "has" not in ranking else f"for {', '.join(ranking['has'])}"
    unknown = "unknown user" if "has" not in ranking else "unknown items"
    note = "" if ranking["known"] else f" ({unknown}: popular items)"
    return f"{who}{note}: {', '.join(map(str, told))}"
