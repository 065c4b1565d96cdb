"""`Problem`: what a search may see and do. Never test data."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.checks import check
from ciess.data import Interactions
from ciess.evaluation.metrics import Evaluator, standard_error
from ciess.methods.fidelity import Fidelity
from ciess.models.base import Backbone, BackboneConfig
from ciess.progress import Progress, silent
from ciess.tables.budget import Budget, project
from ciess.tables.encoding import Encoding
from ciess.tables.plan import SizePlan, TableShape, check_shape
from ciess.tables.precision import Precision
from ciess.train.checkpoint import NOTHING, State


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a plan is worth on validation.

    Attributes:
        plan: the sizes measured.
        user_quality: (n_users,) mean of Recall@k and NDCG@k over k = 5, 10, 20; NaN for users that are not measured.
        quality: mean user quality over the measured users.
        standard_error: of its difference to the full model's quality, user by user; 0 of the full model itself.
    """

    plan: SizePlan
    user_quality: Tensor
    quality: float
    standard_error: float = 0.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan that a search found for a budget.

    Attributes:
        plan: its sizes.
        quality: its mean quality on validation.
        found_by: the simple rule that found it, where a method starts from one; empty for the method itself.
    """

    plan: SizePlan
    quality: float
    found_by: str = ""


@dataclass(eq=False)
class SearchResult:
    """What a search found.

    Attributes:
        best: for each budget, candidates that fit it, the best first.
        trace: everything measured, in order: episode, step, budget, quality and so on, one row each.
        carried: what the method's next search in a stream is to know; None for nothing.
    """

    best: dict[Budget, list[Candidate]]
    trace: list[dict[str, float | str]] = field(default_factory=list)
    carried: State | None = None

    def measure(self, problem: "Problem", budget: Budget, *plans: SizePlan) -> None:
        """Measure plans for a budget: its candidates, the best first."""
        found = [Candidate(plan, problem.quality_of(plan)) for plan in dict.fromkeys(plans)]
        self.best[budget] = sorted(found, key=lambda candidate: -candidate.quality)
        self.trace += [{"kind": "plan", "budget": str(budget), **problem.told(each.plan)} for each in found]

    def measure_scaled(self, problem: "Problem", *plans: SizePlan) -> None:
        """Measure plans of a method that cannot be told a budget, as published, and scaled onto each budget."""
        for plan in plans:
            self.trace.append({"kind": "published", "sparsity": plan.sparsity, **problem.told(plan)})
        for budget in problem.budgets:
            self.measure(problem, budget, *(problem.project(plan.sizes, budget) for plan in plans))


class Sampling(NamedTuple):
    """How a problem's rows were drawn: the shape of all tables, and how many rows each of these stands for."""

    whole: TableShape
    stands_for: NDArray[np.float64]


_Key = tuple[str, Fidelity]
_LATEST = 8
"""Measurements that are remembered whole: each takes 4 bytes for every user and item."""


@runtime_checkable
class Following(Protocol):
    """A method whose plans follow the full model: what was sized by what train holds is sized anew by more data."""

    def followed(self, plan: SizePlan, before: "Problem", after: "Problem") -> SizePlan:
        """Its plan for one budget, sized anew.

        Args:
            plan: which it found.
            before: the problem in which it did.
            after: with a full model that has learned more; its one budget is the plan's. What is held out there has
                been learned, so it measures nothing.
        """


@runtime_checkable
class Method(Protocol):
    """Finds plans: a dataclass of settings with one `search`, see `ciess.methods`."""

    def search(self, problem: "Problem") -> SearchResult:
        """Candidates for every budget of the problem, the best first."""


class Problem:
    """A trained full-size backbone to be cut, budgets to hold, and validation data to measure on.

    Args:
        full_model: trained on `train`, its dimensions in order of importance.
        config: what built it.
        train: what it learned.
        valid: measures on validation.
        budgets: what plans are searched for.
        fidelity: how plans are measured.
        seed: of every measurement: the same plan always measures the same.
        progress: told of every step of a search.
        precision: of each budget's plans; float32 where it says nothing.
        sampled: of what these rows are a sample, and how many rows each stands for; None: they are all rows.

    Attributes:
        full_model: as given; a search may read it, and must not change it.
        config: as given.
        train: as given.
        seed: as given.
        shape: of the full tables.
        fidelity: how plans are measured unless a search says otherwise.
        rows: how many rows there are, or a sample stands for.
        numbers: for each budget, how many numbers plans may surely keep in these rows.
        stands_for: (n_users + n_items,) how many rows each row of a sample stands for; None: for itself.
        popularity: train interactions of each user, (n_users,), and of each item, (n_items,).
        measurements: how many plans were measured so far.
        kept: keeps parts of a search that is at work; what runs the search sets it.
        carried: what the same method's search left before the segment of a stream that is over; else None. It stays as
            it is.
        trainings: how many models were trained so far: for measurements that train, and by the search itself, which
            counts them here.
    """

    def __init__(
        self,
        full_model: Backbone,
        config: BackboneConfig,
        train: Interactions,
        valid: Evaluator,
        budgets: Sequence[Budget],
        fidelity: Fidelity,
        seed: int = 0,
        progress: Progress = silent,
        precision: Mapping[Budget, Encoding] | None = None,
        sampled: Sampling | None = None,
    ) -> None:
        self.full_model, self.config, self.train, self.seed = full_model, config, train, seed
        self._valid = valid
        self.shape = TableShape(train.n_users, train.n_items, full_model.user_table.shape[1])
        self.fidelity = fidelity
        self._qualities: dict[_Key, tuple[float, float]] = {}
        self._latest: dict[_Key, Measurement] = {}
        self.precision = {budget: (precision or {}).get(budget, Precision.FLOAT32) for budget in budgets}
        self.stands_for = None if sampled is None else sampled.stands_for
        whole = self.shape if sampled is None else sampled.whole
        self.rows = whole.rows if self.stands_for is None else float(self.stands_for.sum())
        self.numbers = {
            budget: max(math.ceil(self.rows), int(budget.numbers(whole, each) / whole.rows * self.rows))
            for budget, each in self.precision.items()
        }
        self.progress = progress
        self.popularity = (train.user_counts, train.item_counts)
        self.measurements = self.trainings = 0
        self.kept = NOTHING
        self.carried: State | None = None

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What plans are searched for."""
        return tuple(self.numbers)

    @cached_property
    def full(self) -> Measurement:
        """The full-size model: the peak quality of every user and item."""
        return self._measured(self.full_model, SizePlan.equal(self.shape, self.shape.dim))

    @cached_property
    def valid_positives(self) -> Interactions:
        """What users have on validation: for searches that learn from it themselves."""
        return Interactions(self._valid.truth, self.train.user_ids, self.train.item_ids)

    def quality(self, model: Backbone, user_table: Tensor | None = None, item_table: Tensor | None = None) -> float:
        """Mean quality on validation of a model that a search trained itself, or of that with other tables."""
        return self.told_of(model, user_table, item_table)["quality"]

    def told_of(
        self, model: Backbone, user_table: Tensor | None = None, item_table: Tensor | None = None
    ) -> dict[str, float]:
        """Quality on validation, and its standard error, of a model that a search trained: a row of its trace."""
        vectors = model.vectors(user_table, item_table)
        found = self._valid(lambda users: model.score_all(vectors, users))
        beside = found.quality - self.full.user_quality[found.users]
        return {"quality": float(found.quality.mean()), "standard_error": standard_error(beside)}

    def equal(self, budget: Budget) -> SizePlan:
        """The largest equal sizes that fit the budget."""

        def sized(numbers: int) -> SizePlan:
            return SizePlan.equal(self.shape, int(numbers / self.rows), self.precision[budget])

        return self.filled(sized, budget)

    def project(self, desired: Tensor | NDArray[np.floating | np.integer], budget: Budget) -> SizePlan:
        """Scale desired sizes, (n_users + n_items,), to a plan that fills the budget and never exceeds it."""
        check("budget", budget, Budget)

        def scaled(numbers: int) -> SizePlan:
            return self._plan(project(np.asarray(desired), numbers, self.shape.dim, self.stands_for), budget)

        return self.filled(scaled, budget)

    def project_sides(
        self,
        users: Tensor | NDArray[np.float64],
        items: Tensor | NDArray[np.float64],
        user_share: float,
        budget: Budget,
    ) -> SizePlan:
        """Scale each side's desired sizes to its part of the budget: `user_share` of the numbers are the users', or as
        near to it as rows of 1 to all dimensions allow on both sides."""
        n_users, n_items, dim = self.shape
        weights = np.ones(n_users + n_items) if self.stands_for is None else self.stands_for
        sides = [(users, weights[:n_users]), (items, weights[n_users:])]
        of_users, of_items = (float(stand_for.sum()) for _, stand_for in sides)

        def scaled(numbers: int) -> SizePlan:
            least, most = max(of_users, numbers - of_items * dim), min(of_users * dim, numbers - of_items)
            for_users = min(max(round(numbers * user_share), least), most)
            shares = for_users, numbers - for_users
            parts = [
                project(np.asarray(desired), part, dim, stand_for)
                for part, (desired, stand_for) in zip(shares, sides, strict=True)
            ]
            return self._plan(np.concatenate(parts), budget)

        return self.filled(scaled, budget)

    def filled(self, plan_of: Callable[[int], SizePlan], budget: Budget) -> SizePlan:
        """The largest plan within the budget among those that `plan_of` makes for each count of numbers.

        On a sample the count alone is the limit: bytes are known of all rows only.
        """
        if self.stands_for is not None:
            return plan_of(self.numbers[budget])
        return budget.filled(plan_of, self.numbers[budget])

    def _plan(self, sizes: NDArray[np.int32], budget: Budget) -> SizePlan:
        return SizePlan.from_sizes(sizes, self.shape, self.precision[budget])

    def quality_of(self, plan: SizePlan, fidelity: Fidelity | None = None) -> float:
        """Mean quality of a plan on validation, remembered for every plan that was measured, see `measure`."""
        return self.told(plan, fidelity)["quality"]

    def told(self, plan: SizePlan, fidelity: Fidelity | None = None) -> dict[str, float]:
        """What a trace tells of a plan's measurement: its `quality` and its `standard_error`, see `Measurement`."""
        known = self._qualities.get(self._key(plan, fidelity))
        if known is None:
            found = self.measure(plan, fidelity)
            known = found.quality, found.standard_error
        return {"quality": known[0], "standard_error": known[1]}

    def measure(self, plan: SizePlan, fidelity: Fidelity | None = None) -> Measurement:
        """Make a small model by the plan and rank; without a fidelity, at the problem's own.

        The same plan measures the same. The latest measurements are remembered whole, all others by their mean quality:
        `quality_of` is cheaper where that is all that is needed.
        """
        key = self._key(plan, fidelity)
        if key not in self._latest:
            maker = fidelity or self.fidelity
            self.measurements += 1
            self.trainings += maker.trains
            kept = self.kept.within("measured", plan.digest, hashlib.sha256(repr(maker).encode()).hexdigest()[:16])

            def made() -> State:
                small = maker.model(self.full_model, self.config, plan, self.train, self.seed)
                found = self._measured(small, plan)
                return State({"quality": found.quality}, {"users": found.user_quality})

            state = kept.once(made)
            found = Measurement(plan, state.tensors["users"], state.told["quality"])
            beside = found.user_quality - self.full.user_quality
            found = replace(found, standard_error=standard_error(beside[~beside.isnan()]))
            self._latest[key] = found
            self._qualities[key] = found.quality, found.standard_error
            if len(self._latest) > _LATEST:
                del self._latest[next(iter(self._latest))]
        return self._latest[key]

    def _key(self, plan: SizePlan, fidelity: Fidelity | None) -> "_Key":
        check_shape(plan, self.shape)
        return plan.digest, fidelity or self.fidelity

    @torch.no_grad()
    def _measured(self, backbone: Backbone, plan: SizePlan) -> Measurement:
        # Columns beyond the largest size are zero: where columns are apart they need not be computed.
        width = plan.max_size if backbone.separable else plan.dim
        vectors = backbone.represent(backbone.user_table[:, :width], backbone.item_table[:, :width])
        found = self._valid(lambda users: backbone.score_all(vectors, users))
        user_quality = torch.full((self.shape.n_users,), torch.nan)
        user_quality[found.users] = found.quality
        return Measurement(plan, user_quality, float(found.quality.mean()))

    def item_quality(self, user_quality: Tensor) -> Tensor:
        """(n_items,) mean quality of the measured users who have an item in train (CIESS, Eq. 9); NaN for others."""
        measured = ~user_quality.isnan()
        total = self.train.matrix.T @ user_quality.nan_to_num(0.0).numpy()
        count = self.train.matrix.T @ measured.float().numpy()
        return torch.from_numpy(total / np.where(count > 0, count, np.nan)).float()


def seed_for(budget: Budget, seed: int) -> int:
    """A seed for the search of one budget: what is found for it does not depend on which others are asked for."""
    words = int.from_bytes(hashlib.sha256(str(budget).encode()).digest()[:4], "big")
    return int(np.random.SeedSequence([seed, words]).generate_state(1)[0])
