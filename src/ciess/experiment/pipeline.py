"""The whole way: split → fit → order → search → finish → compressed models → test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation
from ciess.experiment.bench import Bench, Finished, Recipe, Target
from ciess.experiment.given import Given, given
from ciess.experiment.outcome import Outcome, Row
from ciess.experiment.spelling import spelled_call
from ciess.methods import cheap_methods, method_name, method_named
from ciess.methods.ciess.budgeted import Ciess
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Method
from ciess.models import BackboneConfig
from ciess.progress import Progress, silent
from ciess.settings import described, surroundings
from ciess.tables.budget import Budget
from ciess.tables.precision import Precision
from ciess.train.finish import Finish

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from scipy.sparse import sparray, spmatrix

EQUAL, AUTO = "equal", "auto"


def search(
    data: "Interactions | Split | Given | pl.DataFrame | pd.DataFrame | sparray | spmatrix",
    *,
    backbone: str | BackboneConfig = "lightgcn",
    budgets: Sequence[str | Budget] = ("20%", "10%", "5%"),
    method: str | Method | None = None,
    beside: Mapping[str, Method] | None = None,
    finishing: Finish | None = None,
    precision: str | Precision = Precision.FLOAT32,
    target: Target = "input",
    seed: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Find small models that recommend as well as the large one.

    Trains the full model on train until validation stops it, searches sizes on validation, teaches the best plans to
    rank as it does, and keeps the best on validation for each budget; if equal sizes are best, these. Then validation
    joins the training data: the full model trains on, and the chosen plans are taught by it. These models are given
    back, and measured on test where there is one.

    Args:
        data: interactions, to be split 50/25/25 for each user at random, or a split of your own. A polars or pandas
            frame with usual names of columns, and a scipy sparse matrix of users × items, will do as interactions.
        backbone: a name, or a backbone's settings.
        budgets: limits on the bytes of both tables as stored.
        method: what finds the plans: a name, or a method's settings; None is CIESS. `auto` tries the cheap methods,
            CIESS among them, and keeps the best on validation for each budget.
        beside: other methods, by the names that the table gives them: same data, fidelity and finish.
        finishing: how plans are brought to their best.
        precision: how numbers are stored; `auto` takes for each budget the one that is best for equal sizes.
        target: what is packed: `input`, the tables that are learned, or `output`, the rows that are scored. These need
            no graph or network any more, but a graph no longer makes up for what a row loses.
        seed: of the split, of training and of all searches, whatever the methods say.
        progress: told every step.

    Raises:
        InputError: a budget that cannot be met, no or equal budgets, a seed below 0, an unknown backbone, method or
            precision, or outputs that are not scored by inner products.
    """
    wanted = parsed_budgets(budgets)
    recipe = Recipe.of(backbone, finishing, precision, target)
    name, methods = _searching(method or Ciess())
    call = spelled_call(
        search,
        "data",
        backbone=backbone,
        budgets=tuple(map(str, wanted)),
        method=method,
        beside=beside,
        finishing=finishing,
        precision=str(precision),
        target=target,
        seed=seed,
    )
    found = given(data, recipe.config, seed)
    bench = Bench(found.split, recipe, seed, progress)
    return _Run(bench, name, methods, dict(beside or {}), call, found.cautions).outcome(wanted)


def parsed_budgets(budgets: Sequence[str | Budget]) -> list[Budget]:
    """Budgets as people write them.

    Raises:
        InputError: none, two that are equal, or one that is no budget.
    """
    wanted = [Budget.parse(budget) for budget in budgets]
    if not wanted or len({budget.folder for budget in wanted}) < len(wanted):
        raise InputError("budgets must be given, each once: for example 20% 10% 5%")
    return wanted


def _searching(method: str | Method) -> tuple[str, dict[str, Method]]:
    """What is searched by: under which name, and the methods of which the best is kept."""
    if method == AUTO:
        return AUTO, cheap_methods()
    one = method_named(method) if isinstance(method, str) else method
    return method_name(one), {method_name(one): one}


@dataclass(frozen=True, eq=False)
class _Line:
    """What a line of the table shows: a method, a budget, what came of it, and which method found it."""

    method: str
    budget: Budget
    finished: Finished
    found_by: str


class _Run:
    """One run of `search`.

    Args:
        bench: runs the methods.
        name: of what is kept.
        methods: the best of them and equal sizes is kept.
        beside: other methods that the table shows.
        call: what `search` was told, as Python.
        cautions: sentences about what the result may be worth.
    """

    def __init__(
        self,
        bench: Bench,
        name: str,
        methods: dict[str, Method],
        beside: dict[str, Method],
        call: str,
        cautions: Sequence[str] = (),
    ) -> None:
        self.bench, self.name, self.call, self.cautions = bench, name, call, cautions
        self.methods = {name: bench.prepared(method) for name, method in methods.items()}
        self.beside = {name: bench.prepared(method) for name, method in beside.items()}

    def outcome(self, budgets: list[Budget]) -> Outcome:
        """Choose plans on train and validation, build models on both together, measure them on test."""
        self.bench.check(budgets)
        lines, trace = self._searched(budgets)
        kept = {line.budget: line.finished for line in lines if line.method == self.name}
        about, test = self._about(budgets), self.bench.split.test
        full = self.bench.full_shown()
        # Where methods agree, they share one plan, which is built once.
        built = {each.plan: each for each in (kept.values() if test is None else [line.finished for line in lines])}
        models = {plan: self.bench.built(each, about) for plan, each in built.items()}

        def shown(finished: Finished) -> Evaluation:
            return finished.valid if test is None else evaluations[finished.plan]

        evaluations = {} if test is None else {plan: model.evaluate(test) for plan, model in models.items()}
        quality = float(full.quality.mean())
        # By budget here, and by method above: so models are built in the order in which plans were found.
        ordered = [line for budget in budgets for line in lines if line.budget == budget]
        return Outcome(
            method=self.name,
            models={budget: models[each.plan] for budget, each in kept.items()},
            plans={budget: each.plan for budget, each in kept.items()},
            popularity=(self.bench.all_data.user_counts, self.bench.all_data.item_counts),
            rows=[
                Row.of("full", "", self.bench.full_finished, full, quality),
                *(
                    Row.of(each.method, str(each.budget), each.finished, shown(each.finished), quality, each.found_by)
                    for each in ordered
                ),
            ],
            evaluations={
                ("full", ""): full,
                **{(each.method, str(each.budget)): shown(each.finished) for each in ordered},
            },
            shown="validation" if test is None else "test",
            trace=trace,
            settings=about,
        )

    def _searched(self, budgets: list[Budget]) -> tuple[list[_Line], list[dict[str, float | str]]]:
        """Search by all methods; the lines of the table method by method, and what those measured that are kept."""
        problem = self.bench.problem(budgets, getattr(self.methods.get(self.name), "fidelity", None))
        methods = {EQUAL: EqualSizes(), **self.beside, **self.methods}
        found = {name: self.bench.run(name, method, problem) for name, method in methods.items()}
        lines = [
            _Line(name, budget, finished, name)
            for name, each in found.items()
            for budget, finished in each.best.items()
            if name != self.name
        ]
        for budget in budgets:
            # Equal sizes come first and so win ties: a plan must earn its keep.
            won = max((EQUAL, *self.methods), key=lambda name: found[name].best[budget].quality)
            lines.append(_Line(self.name, budget, found[won].best[budget], won))
        return lines, [row for name in self.methods for row in found[name].trace]

    def _about(self, budgets: list[Budget]) -> dict[str, Any]:
        tried = {name: described(method) for name, method in self.methods.items()}
        return {
            "call": self.call,
            "cautions": list(self.cautions),
            "seed": self.bench.seed,
            "budgets": [str(budget) for budget in budgets],
            "method": {"name": AUTO, "tried": tried} if self.name == AUTO else tried[self.name],
            "beside": {name: described(method) for name, method in self.beside.items()},
            **self.bench.recipe.described(),
            **surroundings(self.bench.split),
        }
