"""`Finished`: a size plan brought to its best; `Searched`: what came of one method's search."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ciess.errors import InputError
from ciess.evaluation.metrics import QUALITY_METRICS, TAIL_METRICS, Evaluation, ratio_of_means
from ciess.methods.problem import Candidate, Following, Problem, SearchResult
from ciess.results.outcome import Row
from ciess.tables.budget import Budget
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import SizePlan, TableShape, check_shape
from ciess.tables.taper import read_encoding
from ciess.train.checkpoint import State
from ciess.train.finish import Finishing, Run
from ciess.train.fit import Fitted


@dataclass(frozen=True, eq=False)
class Finished:
    """A size plan brought to its best on train.

    Attributes:
        plan: its sizes.
        fitted: how training went.
        valid: what it came to on validation.
        seconds: of training; as a result of `Bench.run` with the budget's share of the search.
        found_by: the method or simple rule that found the plan.
        from_scratch: whether it was trained from scratch rather than distilled.
        follows: the method that found it, if this one's plans follow the full model.
    """

    plan: SizePlan
    fitted: Fitted | Finishing
    valid: Evaluation
    seconds: float
    found_by: str = ""
    from_scratch: bool = False
    follows: Following | None = None

    def state(self) -> State:
        """All but the plan and who found it, to be kept."""
        valid = {each.name: getattr(self.valid, each.name) for each in dataclasses.fields(self.valid)}
        told = {
            "fitted": dataclasses.asdict(self.fitted),
            "seconds": self.seconds,
            "from_scratch": self.from_scratch,
            "n_items": valid.pop("n_items"),
        }
        return State(told, valid)

    @classmethod
    def of(cls, plan: SizePlan, state: State) -> "Finished":
        """From what was kept."""
        told, fitted = state.told, state.told["fitted"]
        runs = fitted.get("runs")
        return cls(
            plan,
            Fitted(**fitted) if runs is None else Finishing(**{**fitted, "runs": tuple(Run(*run) for run in runs)}),
            Evaluation(n_items=told["n_items"], **state.tensors),
            told["seconds"],
            from_scratch=told["from_scratch"],
        )

    @property
    def key(self) -> tuple[SizePlan, bool]:
        """What the model follows from: its plan, and whether it was trained from scratch."""
        return self.plan, self.from_scratch

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of training: those of distillation, to be repeated, or of the full model, see `while_gaining`."""
        if isinstance(self.fitted, Finishing):
            return self.fitted.runs
        later = self.fitted.later
        return Run(1.0, self.fitted.steps - sum(later)), *(Run(0.5, steps) for steps in later)

    @property
    def converged(self) -> bool:
        """Whether validation had levelled off when training ended."""
        return self.fitted.converged if isinstance(self.fitted, Finishing) else not self.fitted.gaining

    @property
    def quality(self) -> float:
        """Mean quality on validation."""
        return float(self.valid.quality.mean())

    @property
    def tail_recall(self) -> float:
        """Recall@20 of rare items that are held out, on validation, see `tail_of`."""
        return self.valid["tail-recall@20"]

    def ahead_of(self, other: "Finished") -> bool:
        """Whether it is better on validation by more than the standard error of the difference."""
        return self.quality - other.quality > self.valid.standard_error(other.valid)

    def row(self, method: str, budget: str, shown: Evaluation, full: Tensor) -> Row:
        """A line of a table.

        Args:
            method: the line's name.
            budget: as written; empty for the full model.
            shown: what the plan came to on the set that the table shows.
            full: (n,) the full model's quality on that set, of the same users, not all 0.
        """
        kept, error = ratio_of_means(shown.quality, full)
        return Row(
            method=method,
            budget=budget,
            metrics=shown.means(QUALITY_METRICS + TAIL_METRICS),
            kept=kept,
            standard_error=error,
            valid_quality=self.quality,
            table_bytes=stored_bytes(self.plan) if budget else self.plan.shape.full_bytes,
            user_size=float(self.plan.user_sizes.mean()),
            item_size=float(self.plan.item_sizes.mean()),
            precision=str(self.plan.precision),
            seconds=self.seconds,
            found_by=self.found_by or method,
            converged=self.converged,
            runs=[run._asdict() for run in self.runs],
            valid_tail_recall=self.tail_recall,
        )


_CARRIED = "carried "
"""Before the names of tensors that a search leaves to the next."""


class Sought(NamedTuple):
    """What one method found, and its effort: models that it trained, plans that it measured, seconds."""

    found: SearchResult
    trainings: int
    measurements: int
    seconds: float

    def state(self) -> State:
        """To be kept."""
        best = {str(budget): each for budget, each in self.found.best.items()}
        carried = self.found.carried or State({}, {})
        told: dict[str, Any] = {
            "best": {
                budget: [[str(each.plan.precision), each.quality, each.found_by] for each in candidates]
                for budget, candidates in best.items()
            },
            "trace": self.found.trace,
            "effort": self[1:],
            "carried": None if self.found.carried is None else carried.told,
        }
        sizes = {
            f"{budget} {at}": torch.from_numpy(each.plan.sizes)
            for budget, candidates in best.items()
            for at, each in enumerate(candidates)
        }
        return State(told, sizes | {f"{_CARRIED}{name}": each for name, each in carried.tensors.items()})

    @classmethod
    def of(cls, state: State, problem: Problem) -> "Sought":
        """From what was kept of a search with a problem."""
        best = {}
        for budget in problem.budgets:
            best[budget] = [
                Candidate(
                    SizePlan.from_sizes(
                        state.tensors[f"{budget} {at}"].numpy(), problem.shape, read_encoding(precision)
                    ),
                    quality,
                    found_by,
                )
                for at, (precision, quality, found_by) in enumerate(state.told["best"].get(str(budget), []))
            ]
        left = {name.removeprefix(_CARRIED): each for name, each in state.tensors.items() if name.startswith(_CARRIED)}
        carried = None if state.told["carried"] is None else State(state.told["carried"], left)
        return cls(SearchResult(best, state.told["trace"], carried), *state.told["effort"])


@dataclass(frozen=True, eq=False)
class Searched:
    """What came of one method's search.

    Attributes:
        finished: for each budget the candidates, finished; one or more.
        trace: everything measured.
        trainings: models that the search trained, by itself or to measure a plan.
        measurements: plans that it measured.
        finishes: plans that were brought to their best.
        seconds: of the search alone.
        carried: what it leaves to the next segment's, see `SearchResult`.
    """

    finished: dict[Budget, list[Finished]]
    trace: list[dict[str, float | str]]
    trainings: int
    measurements: int
    finishes: int
    seconds: float
    carried: State | None = None

    @property
    def best(self) -> dict[Budget, Finished]:
        """For each budget the candidate that was best on validation, the first of equally good ones."""
        return {budget: best_of(each) for budget, each in self.finished.items()}


def best_of(finished: Sequence[Finished]) -> Finished:
    """The best on validation, the first of equally good ones."""
    return max(finished, key=lambda each: each.quality)


def worth_keeping(found: Sequence[Finished], equal: Finished) -> Finished:
    """The best on validation of those that are ahead of equal sizes by more than the standard error of the difference.

    What is ahead by less may as well be behind on other interactions, and equal sizes are the simpler plan: the rule of
    one standard error (Breiman et al., Classification and Regression Trees, 1984, Sec. 3.4.3).

    Args:
        found: any number.
        equal: what is kept where none is.
    """
    return best_of([each for each in found if each.ahead_of(equal)] or [equal])


def keeping_tail(finished: Sequence[Finished], least: float) -> list[Finished]:
    """Those whose tail recall on validation is `least` or more; where there are none, those that have most."""
    least = min(least, max(each.tail_recall for each in finished))
    return [each for each in finished if each.tail_recall >= least]


def check_candidates(name: str, found: SearchResult) -> None:
    """Refuse what a method gives in place of lists of candidates.

    Raises:
        InputError: a budget's value is no list of `Candidate`.
    """
    for budget, candidates in found.best.items():
        if not isinstance(candidates, Sequence) or not all(isinstance(each, Candidate) for each in candidates):
            raise InputError(f"{name} gives no candidates for {budget}: a search gives a list of Candidate(plan, …)")


def check_plans(name: str, plans: list[SizePlan], budget: Budget, shape: TableShape) -> None:
    """Refuse what a method gives for a budget, of tables of some shape.

    Raises:
        InputError: no plan, or one of other tables or that exceeds the budget.
    """
    if not plans:
        raise InputError(f"{name} gives no plan for {budget}: a search gives one or more for every budget")
    for plan in plans:
        check_shape(plan, shape)
        if (stored := stored_bytes(plan)) > budget.limit(plan.shape):
            raise InputError(
                f"{name} gives a plan of {stored:,} bytes for {budget}, which is {budget.limit(plan.shape):,}: "
                "let problem.project fill the budget"
            )
