"""`SizePolicy`: what a search has learned about sizes, for rows that it had and for others."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ciess.checks import Dim, check
from ciess.errors import InputError
from ciess.files import Content, given_path, reading, write_together
from ciess.methods import method_name
from ciess.methods.ciess.policy import Actor
from ciess.methods.problem import Candidate, Method, Problem, SearchResult
from ciess.tables.budget import Budget, planned
from ciess.tables.curve import Curve
from ciess.tables.encoding import Encoding
from ciess.tables.files import POLICY_FILES, MappedFile, array_bytes, arrays_in, checksum_of, damaged, read_record
from ciess.tables.layout import SIDES
from ciess.tables.plan import MOST_DIM, SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.tables.taper import read_encoding

SETTINGS, ARRAYS = POLICY_FILES
FORMAT = 1

Counts = tuple[NDArray[np.integer], NDArray[np.integer]]
"""Interactions of users, (n_users,), and of items, (n_items,)."""
Rows = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Of the full model: users (n_users, dim) and items (n_items, dim)."""


class SizePolicy:
    """Sizes users and items by their interactions, or by what the full model makes of them as well.

    Of most methods it is a curve of mean sizes by interactions, which is what a rule is anyway. Of CIESS it is an
    actor, which looks at the full model's rows.

    Args:
        users: sizes users.
        items: sizes items.
        dim: dimensions of the full rows that it was learned from.
        found_by: what found the sizes that it was learned from.
    """

    def __init__(self, users: Curve | Actor, items: Curve | Actor, dim: int, found_by: str = "") -> None:
        self.users, self.items, self.dim, self.found_by = users, items, dim, found_by

    def __repr__(self) -> str:
        return "policy"

    @property
    def about(self) -> dict[str, Any]:
        """Its kind, width and method, as its JSON file and reports have them."""
        return {"kind": "actor" if self.needs_rows else "curve", "dim": self.dim, "found_by": self.found_by}

    @classmethod
    def of_plan(cls, plan: SizePlan, counts: Counts, found_by: str = "") -> "SizePolicy":
        """The curves that a plan's sizes lie about, whose users and items have so many interactions."""
        users, items = map(Curve.fitted, counts, (plan.user_sizes, plan.item_sizes))
        return cls(users, items, plan.dim, found_by)

    @property
    def needs_rows(self) -> bool:
        """Whether it looks at the full model's rows."""
        return isinstance(self.users, Actor)

    def sizes(self, counts: Counts, rows: Rows | None = None) -> NDArray[np.float64]:
        """(n_users + n_items,) sizes of 1 or more, users first, before they are scaled onto a budget.

        Args:
            counts: interactions of any users and items, seen before or not.
            rows: of the full model; a policy of curves does not look at them.

        Raises:
            InputError: counts that are none, or rows that are missing or of another width than it has learned from.
        """
        if not isinstance(counts, tuple | list) or len(counts) != 2:
            raise InputError(f"counts are of type {type(counts).__name__}: give a pair, those of users and of items")
        found = []
        for place, side in enumerate((self.users, self.items)):
            given = np.asarray(counts[place])
            if isinstance(side, Actor):
                found.append(side.sizes(given, None if rows is None else rows[place]))
            else:
                found.append(side.sizes(given))
        return np.concatenate(found)

    def check_dim(self, dim: int) -> None:
        """Refuse full rows of a width at which it cannot look.

        Raises:
            InputError: it looks at rows, and has learned from others.
        """
        if self.needs_rows and dim != self.dim:
            raise InputError(
                f"the policy looks at full rows of {self.dim} dimensions, and these have {dim}: take {self.dim}"
            )

    def plan(
        self,
        counts: Counts,
        budget: str | Budget,
        *,
        dim: int | None = None,
        precision: str | Encoding = Precision.FLOAT32,
        rows: Rows | None = None,
    ) -> SizePlan:
        """A plan for any users and items that fills a budget, and never exceeds it by a byte.

        Args:
            counts: their interactions.
            budget: of the bytes of both tables as stored.
            dim: dimensions of a full row; None for as many as those that it was learned from.
            precision: how parameters are stored; bits that fall along rows as a `Taper`, or as it is written.
            rows: of the full model; a policy of curves does not look at them.

        Raises:
            InputError: as for `sizes`, or a budget that cannot be met.
        """
        width = self.dim if dim is None else check("dim", dim, Dim)
        encoding = precision if isinstance(precision, Encoding) else read_encoding(precision)
        encoding.check(width)
        sizes = self.sizes(counts, rows)
        return planned(sizes, TableShape(len(counts[0]), len(counts[1]), width), Budget.parse(budget), encoding)

    @property
    def files(self) -> dict[str, Content]:
        """What `write_together` writes, by name."""
        sides = dict(zip(SIDES, (self.users, self.items), strict=True))
        arrays = {f"{side}.{name}": array for side, each in sides.items() for name, array in each.arrays.items()}
        stored = array_bytes(arrays, "policy")
        kept = {"format": FORMAT, **self.about, "checksum": checksum_of(stored)}
        return {ARRAYS: stored, SETTINGS: json.dumps(kept, indent=2) + "\n"}

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, made if need be.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = given_path("folder", folder)
        write_together(folder, self.files)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "SizePolicy":
        """Read what `save` wrote; the folder of a saved model holds the policy of its search. It may be a stranger's.

        Raises:
            InputError: a file is missing, damaged or foreign.
        """
        folder = given_path("folder", folder)
        with reading(folder.absolute()) as place:
            settings = _read_settings(folder / SETTINGS, place(SETTINGS))
            content = MappedFile(place(ARRAYS)).content.copy()
        path = folder / ARRAYS
        if checksum_of(content.data) != settings["checksum"]:
            raise damaged(path)
        arrays, _ = arrays_in(path, content)
        try:
            users, items = (_side(settings, _of_side(arrays, side)) for side in SIDES)
            if any(name.partition(".")[0] not in SIDES for name in arrays):
                raise ValueError("there are other arrays beside the policy's")
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path) from error
        return cls(users, items, settings["dim"], settings["found_by"])


def _read_settings(path: Path, place: Path) -> dict[str, Any]:
    with read_record(path, place, "a folder", "search anew") as settings:
        if settings["format"] != FORMAT:
            raise InputError(f"{path} is of format {settings['format']!s:.20}, this ciess reads {FORMAT}: search anew")
        types = {"kind": str, "dim": int, "found_by": str, "checksum": str}
        if not all(type(settings[name]) is kind for name, kind in types.items()):
            raise ValueError("settings are not those of a policy")
        if settings["kind"] not in ("curve", "actor") or not 1 <= settings["dim"] <= MOST_DIM:
            raise ValueError("settings are not those of a policy")
    return settings


def _of_side(arrays: Mapping[str, NDArray[Any]], side: str) -> dict[str, NDArray[Any]]:
    return {name.partition(".")[2]: array for name, array in arrays.items() if name.partition(".")[0] == side}


def _side(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Curve | Actor:
    return Actor.from_arrays(arrays, settings["dim"]) if settings["kind"] == "actor" else Curve.from_arrays(arrays)


def policy_of(method: Method, problem: Problem, plan: SizePlan, found_by: str) -> SizePolicy:
    """What a method has learned by a plan: what its `learned` says if it has that, else the curves of the plan."""
    own: Callable[[Problem, SizePlan], SizePolicy] | None = getattr(method, "learned", None)
    # Its own is of its own plans, and not of a rule's that it started from.
    if own is None or found_by != method_name(method):
        return SizePolicy.of_plan(plan, problem.popularity, found_by)
    return own(problem, plan)


@dataclass(frozen=True)
class Applied:
    """A method that searches nothing: plans are those of a policy."""

    name: ClassVar[str] = "policy"

    policy: SizePolicy

    def search(self, problem: Problem) -> SearchResult:
        """The policy's plan for every budget; nothing is measured."""
        plans = {budget: sized(self.policy, problem, budget) for budget in problem.budgets}
        return SearchResult({budget: [Candidate(plan, float("nan"))] for budget, plan in plans.items()})

    def learned(self, problem: Problem, plan: SizePlan) -> SizePolicy:
        """The policy itself."""
        return self.policy

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        """The policy's plan for what users and items have now."""
        return sized(self.policy, after, after.budgets[0])


def full_rows(problem: Problem) -> Rows:
    """The full model's tables."""
    full = problem.full_model
    return full.user_table.detach().numpy(), full.item_table.detach().numpy()


def sized(policy: SizePolicy, problem: Problem, budget: Budget) -> SizePlan:
    """A policy's plan for all rows of a problem."""
    return problem.project(policy.sizes(problem.popularity, full_rows(problem)), budget)
