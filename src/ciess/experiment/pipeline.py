"""The whole way: split → fit → order → search → finish → compressed models → test."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ciess.checks import Seed, check, parsed_share
from ciess.data import Split
from ciess.data.interactions import InteractionsLike
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation
from ciess.experiment.bench import Bench
from ciess.experiment.cells import Known
from ciess.experiment.clock import Clock
from ciess.experiment.finished import Finished, Searched, best_of, keeping_tail, worth_keeping
from ciess.experiment.given import Given, given
from ciess.experiment.outcome import Outcome
from ciess.experiment.recipe import Recipe, Target, TestUsers
from ciess.experiment.settings import described, surroundings
from ciess.experiment.spelling import spelled_call
from ciess.experiment.users import tested
from ciess.files import given_path
from ciess.methods import cheap_methods, method_name, method_named, methods_under
from ciess.methods.equal import EqualSizes
from ciess.methods.marginal import Marginal
from ciess.methods.policy import SizePolicy, policy_of
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Method
from ciess.methods.sample import Sampled
from ciess.models import BackboneConfig
from ciess.progress import Progress, silent
from ciess.results.outcome import EQUAL, FULL, KEPT, ByBudget, tails_lost
from ciess.serve.model import CompressedModel
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.train.finish import Finish

AUTO, DEFAULT = "auto", "marginal"
_log = logging.getLogger(__name__)


def search(
    data: "InteractionsLike | Split | Given",
    *,
    backbone: str | BackboneConfig = "lightgcn",
    budgets: str | Budget | Sequence[str | Budget] = ("20%", "10%", "5%"),
    method: str | Method | None = None,
    beside: Mapping[str, str | Method] | None = None,
    finishing: Finish | None = None,
    precision: str | Precision = Precision.FLOAT32,
    target: Target = "input",
    tune: bool | None = None,
    max_tail_loss: float | str | None = None,
    sample: float | str | None = None,
    refit: bool = True,
    test_users: TestUsers = "sample",
    force: bool = False,
    seed: int = 0,
    kept: str | Path | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Find small models that recommend as well as the large one.

    1. Train the full model on train until validation stops it, search size plans, finish the best ones, and keep the
       best on validation for each budget, or equal sizes where it is ahead of them by no more than chance.
    2. Let the full model learn validation too, finish the chosen plans from it, and measure these models on test.
    3. Let the full model learn test too, and finish the kept plans once more: these models are given back.

    Without test, the table shows validation, and the models of step 2 are given back. Whatever a model has learned, all
    interactions that were given count as seen: it does not recommend them to the users who have them.

    Args:
        data: interactions, to be split 50/25/25 for each user at random, or a split of your own. A path or name, see
            `ciess.read`, a polars or pandas frame with usual names of columns, and a scipy sparse matrix of
            users × items, will do as interactions.
        backbone: a name, or a backbone's settings.
        budgets: limits on the bytes of both tables as stored, one or several. Each budget's result is what it would be
            alone.
        method: what finds the plans: a name, or a method's settings. `auto` tries the cheap methods, CIESS among them,
            and keeps the best on validation for each budget. None searches by `marginal`, and where that is not ahead
            of equal sizes by more than chance, or a tail must be kept, by `popularity`, too.
        beside: other methods, by the names that the table gives them: same data, fidelity and finish.
        finishing: how plans are brought to their best.
        precision: how parameters are stored; `auto` takes for each budget the one that is best for equal sizes.
        target: what is packed: `input`, the tables that are learned, or `output`, the final vectors that are scored.
            These need no graph or network any more, but a graph no longer makes up for what a row loses.
        refit: whether the models given back learn all that was given; else they are the measured ones.
        test_users: whose test interactions the table is measured on: `all`, or a `sample` of 20,000 or more where
            ranking all items for all users would take minutes.
        force: whether to try even what would not fit into the memory that is available.
        tune: whether the full model's decisive settings are tuned on validation first, but for those that differ from
            the backbone's defaults; None tunes a backbone that is given by its name.
        max_tail_loss: the share of the full model's tail recall on validation, see `ciess.evaluation.metrics`, that a
            model that is kept may lose, such as `5%`. Where all lose more, the one that loses least is kept, and a
            caution says so. The plans stay as they were measured, also where their method would size them anew as the
            full model learns more. None: any.
        sample: the share of the users, such as `15%`, on whom and on whose items sizes are searched; what is found
            becomes a policy that sizes all rows. The full model is trained, and plans are finished and packed, on all.
            None: all.
        seed: of the split, of training and of all searches, whatever the methods say.
        kept: a folder that keeps what is done: the same call goes on where another one was stopped, and comes to the
            same. None keeps nothing.
        progress: told every step.

    Raises:
        InputError: a budget that cannot be met, no or equal budgets, a seed below 0, a loss or sample that is no share,
            a sample of a graph or for a method that is not cheap, an unknown backbone, method, precision or target,
            outputs that are not scored by inner products, a full model without any quality, or too little memory.
    """
    clock = Clock()
    wanted = parsed_budgets(budgets)
    recipe = Recipe.of(backbone, finishing, precision, target, tune, test_users)
    share = None if sample is None else parsed_share("sample", sample, above_zero=True)
    name, methods = _searching(method, share)
    others = _named_apart(dict(check("beside", beside, Mapping | None) or {}), [name] if method is None else methods)
    seed = check("seed", seed, Seed)
    check("refit", refit, bool)
    check("progress", progress, Callable)
    loss = None if max_tail_loss is None else parsed_share("max_tail_loss", max_tail_loss)
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
        tune=tune,
        max_tail_loss=max_tail_loss,
        sample=sample,
        refit=refit,
        test_users=test_users,
        seed=seed,
    )
    found = given(data, recipe.config, seed)
    pieces = Known(found.split, recipe, seed).unfinished(None if kept is None else given_path("kept", kept))
    bench = Bench(found.split, recipe, seed, progress, pieces.within("full"), found.clock or clock, pieces, force)
    in_turn = method is None and loss is None
    return _Run(bench, name, methods, in_turn, others, loss, share, refit, call, found.cautions).outcome(wanted)


def parsed_budgets(budgets: str | Budget | Sequence[str | Budget]) -> list[Budget]:
    """Budgets as people write them: one, or several, in one text with commas between them too.

    Raises:
        InputError: none, two that are equal, or one that is no budget.
    """
    given: Any = budgets.split(",") if isinstance(budgets, str) else budgets
    if isinstance(given, Budget | bytes) or not isinstance(given, Iterable):
        given = [given]
    wanted = [Budget.parse(budget) for budget in given]
    if not wanted:
        raise InputError("no budgets are given: write them as 20% 10% 5%")
    if len({budget.folder for budget in wanted}) < len(wanted):
        raise InputError(f"a budget is given twice among {', '.join(map(str, wanted))}: give each once")
    return wanted


def _searching(method: str | Method | None, share: float | None) -> tuple[str, dict[str, Method]]:
    """What is searched by: under which name, and the methods of which the best is kept; on a sample if there is one."""
    name: str
    methods: dict[str, Method]
    if method is None:
        name, methods = DEFAULT, {DEFAULT: Marginal(), "popularity": Popularity()}
    elif method == AUTO:
        name, methods = AUTO, cheap_methods()
    else:
        one = method_named(method) if isinstance(method, str) else method
        name, methods = method_name(one), {method_name(one): one}
    return name, methods if share is None else {name: Sampled(each, share) for name, each in methods.items()}


def _named_apart(beside: dict[str, str | Method], methods: Iterable[str]) -> dict[str, Method]:
    taken = {FULL, EQUAL, KEPT, *methods} & beside.keys()
    if taken:
        raise InputError(f"beside names {', '.join(sorted(taken))}, as other lines of the table: give other names")
    return methods_under(beside)


class _Run:
    """One run of `search`.

    Args:
        bench: runs the methods.
        name: of what is searched by.
        methods: the best of them and equal sizes is kept.
        in_turn: whether each is run only at budgets where none before it is ahead of equal sizes; those that are not
            kept have no line then, since building and measuring them takes as long as building what is kept.
        beside: other methods that the table shows.
        loss: the largest share of the full model's tail recall that what is kept may lose; None: any.
        share: of the users on whom sizes are searched; None: all.
        refit: whether models learn test, too, once they are measured.
        call: what `search` was told, as Python.
        cautions: sentences about what the result may be worth.
    """

    def __init__(
        self,
        bench: Bench,
        name: str,
        methods: dict[str, Method],
        in_turn: bool,
        beside: dict[str, Method],
        loss: float | None,
        share: float | None,
        refit: bool,
        call: str,
        cautions: Sequence[str] = (),
    ) -> None:
        self.bench, self.name, self.loss, self.share, self.refit, self.call = bench, name, loss, share, refit, call
        self.cautions, self.in_turn = list(cautions), in_turn
        self.methods = {name: bench.prepared(method) for name, method in methods.items()}
        self.beside = {name: bench.prepared(method) for name, method in beside.items()}

    def outcome(self, budgets: list[Budget]) -> Outcome:
        """Choose plans on train and validation, measure their models on test, build those that are given back."""
        bench = self.bench
        bench.check(budgets)
        bench.tune()
        beside, found = self._searched(budgets)
        lines = self._followed(self._lines(beside, found, budgets))
        about = self._about(budgets)
        full, shown = self._full_shown()
        kept = {budget: lines[KEPT, budget] for budget in budgets}
        measured = self._measured(lines, about) if shown == "test" else {}
        models = self._models(kept, measured, about)
        evaluations = {
            (method, str(budget)): measured[each.key][1] if measured else each.valid
            for (method, budget), each in lines.items()
        }
        rows = [
            bench.full_models.finished.row(FULL, "", full, full.quality),
            *(
                each.row(method, str(budget), evaluations[method, str(budget)], full.quality)
                for (method, budget), each in lines.items()
            ),
        ]
        if measured and self.loss is not None:
            about["cautions"] += tails_lost(rows, 1 - self.loss)
        learned = bench.split.train_valid()
        return Outcome(
            method=self.name,
            models=ByBudget(models),
            plans=ByBudget({budget: each.plan for budget, each in kept.items()}),
            policies=ByBudget({budget: self._policy(each, budget) for budget, each in kept.items()}),
            popularity=(learned.user_counts, learned.item_counts),
            rows=rows,
            evaluations={(FULL, ""): full, **evaluations},
            shown=shown,
            trace=[row for each in found.values() for row in each.trace],
            settings=about,
            seconds=bench.clock.seconds(),
        )

    def _searched(self, budgets: list[Budget]) -> tuple[dict[str, Searched], dict[str, Searched]]:
        """What came of equal sizes and the methods beside, and of those of which the best is kept, where they ran."""
        bench = self.bench
        problem = bench.problem(budgets)
        methods = {EQUAL: EqualSizes(), **self.beside}
        beside = {name: bench.run(name, method, problem) for name, method in methods.items()}
        found: dict[str, Searched] = {}
        for name, method in self.methods.items():
            left = budgets
            if self.in_turn:
                equal = beside[EQUAL].best
                left = [b for b in budgets if not any(one.ahead_of(equal[b]) for one in _candidates(found, b))]
            if left:
                found[name] = bench.run(name, method, problem if left == budgets else bench.problem(left))
        return beside, found

    def _lines(
        self, beside: Mapping[str, Searched], found: Mapping[str, Searched], budgets: list[Budget]
    ) -> dict[tuple[str, Budget], Finished]:
        """The lines of the table by name and budget, budget by budget; the last of each is what is kept."""
        lines: dict[tuple[str, Budget], Finished] = {}
        shown = {} if self.in_turn else found
        for budget in budgets:
            lines |= {(name, budget): each.best[budget] for name, each in beside.items()}
            for name, each in shown.items():
                # What is searched by has a line only where a plan is really its own, and not its starting rule's.
                own = [one for one in each.finished.get(budget, []) if one.found_by == name]
                if own:
                    lines.setdefault((name, budget), best_of(own))
            lines[KEPT, budget] = self._kept(_candidates(found, budget), beside[EQUAL].best[budget], budget)
        return lines

    def _kept(self, candidates: list[Finished], equal: Finished, budget: Budget) -> Finished:
        """What is worth keeping of those that lose no more of the tail than is allowed."""
        if self.loss is None:
            return worth_keeping(candidates, equal)
        full = self.bench.full_models.finished.tail_recall
        allowed = keeping_tail([equal, *candidates], (1 - self.loss) * full)
        kept = worth_keeping(allowed, equal) if equal in allowed else best_of(allowed)
        if kept.tail_recall < (1 - self.loss) * full:
            self.cautions.append(
                f"of the plans for {budget} none keeps {100 * (1 - self.loss):g}% of the full model's tail recall on "
                f"validation, so the one that loses least is kept: {kept.tail_recall / full:.1%} are left"
            )
        return kept

    def _followed(self, lines: Mapping[tuple[str, Budget], Finished]) -> dict[tuple[str, Budget], Finished]:
        """The lines with plans as they are for models that have learned more than train, if there are such.

        Where a tail must be kept they stay: nothing is held out any more by which that could be measured.
        """
        if self._learned_parts() == 1 or self.loss is not None:
            return dict(lines)
        plans = {each: budget for (_, budget), each in lines.items()}
        found = {each: self.bench.followed(each, budget) for each, budget in plans.items()}
        return {key: found[each] for key, each in lines.items()}

    def _policy(self, kept: Finished, budget: Budget) -> SizePolicy:
        """What found a plan, as a policy for other rows."""
        problem = self.bench.problem([budget], parts=min(2, self._learned_parts()))
        method = self.methods.get(kept.found_by, EqualSizes())
        # What searched a sample learns from all rows.
        method = method.seeded if isinstance(method, Sampled) else method
        return policy_of(method, problem, kept.plan, kept.found_by)

    def _full_shown(self) -> tuple[Evaluation, str]:
        """The full model on what the table shows, and what that is."""
        bench = self.bench
        if bench.split.test is None:
            return bench.full_models.finished.valid, "validation"
        full = bench.full_models.shown()
        if full.quality.any():
            return full, "test"
        _log.warning("the full model ranks no test items among its first 20: the table shows validation instead")
        return bench.full_models.finished.valid, "validation"

    def _measured(
        self, lines: Mapping[tuple[str, Budget], Finished], about: dict[str, Any]
    ) -> dict[tuple[SizePlan, bool], tuple[CompressedModel, Evaluation]]:
        """For each plan the model that has learned train and validation, and what it comes to on test."""
        # Where methods agree, they share one plan, which is built once.
        return {
            key: self.bench.measured(each, about) for key, each in {each.key: each for each in lines.values()}.items()
        }

    def _models(
        self,
        kept: Mapping[Budget, Finished],
        measured: Mapping[tuple[SizePlan, bool], tuple[CompressedModel, Evaluation]],
        about: dict[str, Any],
    ) -> dict[Budget, CompressedModel]:
        """The models that are given back."""
        parts = self._learned_parts()
        if measured and (parts == 2 or not self.bench.full_models.learn):
            return {budget: measured[each.key][0] for budget, each in kept.items()}
        plans = {each.key: each for each in kept.values()}
        built = {plan: self.bench.built(each, about, parts) for plan, each in plans.items()}
        return {budget: built[each.key] for budget, each in kept.items()}

    def _learned_parts(self) -> int:
        """How many of train, validation and test the models that are given back have learned."""
        given = len(self.bench.split.parts)
        return given if self.refit else given - 1

    def _about(self, budgets: list[Budget]) -> dict[str, Any]:
        tried = {name: described(method) for name, method in self.methods.items()}
        return {
            "call": self.call,
            "cautions": list(self.cautions),
            "seed": self.bench.seed,
            "budgets": [str(budget) for budget in budgets],
            "method": tried[self.name] if len(tried) == 1 else {"name": self.name, "tried": tried},
            "beside": {name: described(method) for name, method in self.beside.items()},
            "max_tail_loss": self.loss,
            "sample": self.share,
            **self.bench.recipe.described(),
            "tuning": self.bench.full_models.tuning,
            "refit": self.refit,
            "tested": tested(self.bench.split.test, self.bench.recipe.test_users),
            "learned": ["train", "validation", "test"][: self._learned_parts()] if self.bench.full_models.learn else [],
            **surroundings(self.bench.split),
        }


def _candidates(found: Mapping[str, Searched], budget: Budget) -> list[Finished]:
    """What the methods that ran for a budget have found."""
    return [one for each in found.values() for one in each.finished.get(budget, [])]
