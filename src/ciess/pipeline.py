"""The whole way: split → fit → order → search → finish → compressed models → test."""

import dataclasses
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ciess.backbones import Backbone, BackboneConfig, InnerProduct, Training, backbone_named, backbone_settings
from ciess.backbones.factors import Factors, FactorsModel
from ciess.data import Interactions, Split, split_random
from ciess.errors import InputError
from ciess.evaluation import Evaluation, Evaluator, evaluate
from ciess.fidelity import FineTune, suiting
from ciess.finishing import Finish, finish
from ciess.losses import BPR
from ciess.methods.ciess import Ciess
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Method, Problem
from ciess.model import CompressedModel
from ciess.outcome import Outcome, Row
from ciess.progress import Progress, silent
from ciess.spelling import spelled_call
from ciess.tables.budget import Budget
from ciess.tables.packed import stored_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.training import Fitted, fit

_SCORES_IN_A_MEASUREMENT = 100_000_000
"""The most scores that one measurement on validation ranks."""


def search(
    data: Interactions | Split,
    *,
    backbone: str | BackboneConfig = "lightgcn",
    budgets: Sequence[str | Budget] = ("20%", "10%", "5%"),
    method: Ciess | None = None,
    beside: Mapping[str, Method] | None = None,
    finishing: Finish | None = None,
    precision: str | Precision = Precision.FLOAT32,
    target: Literal["input", "output"] = "input",
    seed: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Find small models that recommend as well as the large one.

    Trains the full model on train until validation stops it, searches sizes on validation, teaches the best plans to
    rank as it does, and keeps the best on validation for each budget. Then validation joins the training data: the full
    model trains on, and the chosen plans are taught by it. These models are given back, and measured on test where
    there is one.

    Args:
        data: interactions, to be split 50/25/25 for each user at random, or a split of your own.
        backbone: a name, or a backbone's settings.
        budgets: limits on the bytes of both tables as stored.
        method: settings of CIESS.
        beside: other methods, by the names that the table gives them: same data, fidelity and finish.
        finishing: how plans are brought to their best.
        precision: how numbers are stored; `auto` takes for each budget the one that is best for equal sizes.
        target: what is packed: `input`, the tables that are learned, or `output`, the rows that are scored. These need
            no graph or network any more, but a graph no longer makes up for what a row loses.
        seed: of the split, of training and of the search, whatever `method` says.
        progress: told every step.

    Raises:
        InputError: a budget that cannot be met, no or equal budgets, an unknown backbone or precision, or outputs that
            are not scored by inner products.
    """
    config = backbone_named(backbone) if isinstance(backbone, str) else backbone
    wanted = [Budget.parse(budget) for budget in budgets]
    if not wanted or len({budget.folder for budget in wanted}) < len(wanted):
        raise InputError("budgets must be given, each once: for example 20% 10% 5%")
    split = data if isinstance(data, Split) else split_random(data, seed=seed)
    stored = None if precision == "auto" else Precision.parse(precision)
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
    settings = _Settings(
        config, method or Ciess(), dict(beside or {}), finishing or Finish(), stored, target, seed, call
    )
    return _Run(split, settings, progress).outcome(wanted)


@dataclass(frozen=True)
class _Settings:
    """What `search` was told, and that as a call; without a precision, the best is chosen."""

    config: BackboneConfig
    method: Ciess
    beside: dict[str, Method]
    finishing: Finish
    precision: Precision | None
    target: Literal["input", "output"]
    seed: int
    call: str


@dataclass(frozen=True, eq=False)
class _Finished:
    """A plan brought to its best on train: the model, how long it trained, and what it came to on validation."""

    model: Backbone
    plan: SizePlan
    fitted: Fitted
    valid: Evaluation
    seconds: float


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What train and validation decided; `full` is cut, and is `trained` itself where the input is packed."""

    trained: Backbone
    full: _Finished
    by_method: dict[str, dict[Budget, _Finished]]
    trace: list[dict[str, float | str]]


class _Run:
    """One run of `search`."""

    def __init__(self, split: Split, settings: _Settings, progress: Progress) -> None:
        self.split, self.settings, self.progress = split, settings, progress
        self.config, self.seed, self.finishing = settings.config, settings.seed, settings.finishing
        self.method = dataclasses.replace(settings.method, seed=settings.seed)
        self._finished: dict[SizePlan, _Finished] = {}
        self.valid = Evaluator(split.train.matrix, split.valid.matrix, users=_sample(split.valid, self.seed))

    def outcome(self, budgets: list[Budget]) -> Outcome:
        """Choose plans on train and validation, build models on both together, measure them on test."""
        chosen = self._choose(budgets)
        data, test = self.split.train_valid(), self.split.test
        trained = self.config.build(data, self.seed)
        trained.load_state_dict(chosen.trained.state_dict())
        self._fit(trained, data, self.config.training.resumed(chosen.full.fitted.steps), "full model, all data")
        full = self._packed(trained)
        about = self._about(budgets)
        kept = chosen.by_method["ciess"]
        wanted = kept.values() if test is None else [e for plans in chosen.by_method.values() for e in plans.values()]
        # Where methods agree, they share one plan, which is built once.
        built = {each.plan: each for each in wanted}
        models = {plan: self._build(full, data, each, about) for plan, each in built.items()}
        if test is None:
            shown = {each.plan: each.valid for _, _, each in _lines(chosen)}
        else:
            shown = {plan: model.evaluate(test) for plan, model in models.items()}
            shown[chosen.full.plan] = evaluate(full, Evaluator(data.matrix, test.matrix))
        return Outcome(
            models={budget: models[each.plan] for budget, each in kept.items()},
            plans={budget: each.plan for budget, each in kept.items()},
            popularity=(data.user_counts, data.item_counts),
            rows=_rows(chosen, shown),
            evaluations={(method, budget): shown[each.plan] for method, budget, each in _lines(chosen)},
            shown="validation" if test is None else "test",
            trace=chosen.trace,
            settings=about,
        )

    def _choose(self, budgets: list[Budget]) -> _Chosen:
        """Train on train; search and finish plans; keep the best on validation."""
        train = self.split.train
        trained = self.config.build(train, self.seed)
        # Made before training too: what cannot be done is refused at once, not after minutes.
        untrained = self._packed(trained)
        fidelity = self.method.fidelity or suiting(untrained)
        self.method = dataclasses.replace(self.method, fidelity=fidelity)
        self._problem(untrained, dict.fromkeys(budgets, self.settings.precision or Precision.INT4_SHARED))
        fitted = self._fit(trained, train, self.config.training, "full model", self.valid)
        full = self._packed(trained)
        problem = self._problem(full, {budget: self._precision(full, budget) for budget in budgets})
        equal = {
            budget: self._finish(full, baseline.plan, f"{budget} equal sizes")
            for budget, [baseline] in EqualSizes().search(problem).best.items()
        }
        by_method, traces = {"equal": equal}, {}
        for name, method in {**self.settings.beside, "ciess": self.method}.items():
            by_method[name], traces[name] = self._search(name, method, problem, full, equal)
        whole = SizePlan.equal(problem.shape, problem.shape.dim)
        best = _Finished(full, whole, fitted, evaluate(full, self.valid), fitted.seconds)
        return _Chosen(trained, best, by_method, traces["ciess"])

    def _problem(self, full: Backbone, precision: dict[Budget, Precision]) -> Problem:
        fidelity = self.method.fidelity or suiting(full)
        return Problem(
            full,
            self.config,
            self.split.train,
            self.valid,
            list(precision),
            fidelity,
            self.seed,
            self.progress,
            precision,
        )

    def _packed(self, trained: Backbone) -> Backbone:
        """The model whose tables are packed: the trained one, or one whose tables are the rows that it scores."""
        if self.settings.target == "input" or trained.rows_stand_alone:
            return trained
        if not isinstance(trained, InnerProduct):
            raise InputError("its outputs are not scored by inner products: pack the input")
        outputs = FactorsModel(*(side.numpy() for side in trained.vectors()))
        outputs.order_dimensions()
        return outputs

    def _precision(self, full: Backbone, budget: Budget) -> Precision:
        """What is wanted, or what equal sizes are best with after a short distillation.

        Floats are left out where int8 does not yet store all numbers: 8 bits lose next to nothing, and more numbers
        gain.
        """
        if self.settings.precision is not None:
            return self.settings.precision
        best, tried = (-1.0, Precision.INT8), [Precision.INT8, Precision.INT4, Precision.INT4_SHARED]
        shape = TableShape(self.split.train.n_users, self.split.train.n_items, full.user_table.shape[1])
        for precision in tried:
            try:
                budget.numbers(shape, precision)
            except InputError:
                continue
            problem = self._problem(full, {budget: precision})
            plan = problem.equal(budget)
            if precision is Precision.INT8 and plan.max_size == shape.dim:
                tried += [Precision.FLOAT16, Precision.FLOAT32]
            best = max(best, (problem.measure(plan, FineTune()).quality, precision), key=lambda found: found[0])
        return best[1]

    def _search(
        self, name: str, method: Method, problem: Problem, full: Backbone, equal: dict[Budget, _Finished]
    ) -> tuple[dict[Budget, _Finished], list[dict[str, float | str]]]:
        """One method's plans, finished, and the best for each budget; CIESS' never worse than equal sizes."""
        start = time.perf_counter()
        searched = method.search(problem)
        seconds = (time.perf_counter() - start) / len(problem.budgets)
        best = {}
        for budget, candidates in searched.best.items():
            plans = dict.fromkeys(each.plan for each in candidates if each.plan != equal[budget].plan)
            finished = [
                self._finish(full, plan, f"{budget} {name} {number}", seconds) for number, plan in enumerate(plans, 1)
            ]
            # Equal sizes come first and so win ties: a plan must earn its keep.
            rivals = [equal[budget]] if name == "ciess" or not finished else []
            best[budget] = max([*rivals, *finished], key=lambda each: float(each.valid.quality.mean()))
        return best, searched.trace

    def _fit(
        self, backbone: Backbone, data: Interactions, training: Training, phase: str, valid: Evaluator | None = None
    ) -> Fitted:
        """Train a full model and put its dimensions in order."""
        lesson = backbone.solver(data) or BPR(backbone, data, training, self.seed)
        fitted = fit(backbone, lesson, training, valid=valid, seed=self.seed, phase=phase, progress=self.progress)
        backbone.order_dimensions()
        return fitted

    def _finish(self, full: Backbone, plan: SizePlan, phase: str, search_seconds: float = 0.0) -> _Finished:
        """Bring a plan to its best, once: methods that come to the same plan share what came of it."""
        if plan not in self._finished:
            small, fitted = finish(
                full, plan, self.finishing, seed=self.seed, valid=self.valid, phase=phase, progress=self.progress
            )
            self._finished[plan] = _Finished(small, plan, fitted, evaluate(small, self.valid), fitted.seconds)
        done = self._finished[plan]
        return dataclasses.replace(done, seconds=search_seconds + done.seconds)

    def _build(self, full: Backbone, data: Interactions, chosen: _Finished, about: dict[str, Any]) -> CompressedModel:
        """The chosen plan on all data: finished anew from the full model that trained on.

        What training made no better on validation is cut from the full model, here too.
        """
        small = chosen.model
        if self.config.training.steps:
            small, _ = finish(
                full,
                chosen.plan,
                self.finishing if chosen.fitted.steps else self.finishing.lasting(0),
                seed=self.seed,
                phase="finish, all data",
                progress=self.progress,
            )
        # Rows that are scored as they are need no more of the backbone than their width.
        outputs = isinstance(small, FactorsModel) and not isinstance(self.config, Factors)
        config = Factors(dim=chosen.plan.dim) if outputs else self.config
        return CompressedModel.pack(config, small, chosen.plan, data, about)

    def _about(self, budgets: list[Budget]) -> dict[str, Any]:
        return {
            "call": self.settings.call,
            "seed": self.seed,
            "budgets": [str(budget) for budget in budgets],
            "backbone": backbone_settings(self.config),
            "method": _described(self.method),
            "beside": {name: _described(method) for name, method in self.settings.beside.items()},
            "finishing": _described(self.finishing),
            "precision": self.settings.precision or "auto",
            "target": self.settings.target,
            "data": {
                "users": self.split.train.n_users,
                "items": self.split.train.n_items,
                "train": len(self.split.train),
                "valid": len(self.split.valid),
                "test": len(self.split.test) if self.split.test is not None else 0,
            },
            "versions": {name: version(name) for name in ("ciess", "torch", "numpy", "scipy", "polars")},
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        }


def _sample(valid: Interactions, seed: int) -> NDArray[np.int64] | None:
    """The users that choices are measured on: all, or a fixed sample where ranking all of them would take seconds."""
    users = np.flatnonzero(valid.user_counts)
    most = max(1, _SCORES_IN_A_MEASUREMENT // valid.n_items)
    return None if len(users) <= most else np.sort(np.random.default_rng(seed).choice(users, most, replace=False))


def _described(settings: Any) -> Any:
    """Settings as JSON keeps them, each with the name of its class."""
    if not dataclasses.is_dataclass(settings):
        return settings
    fields = {field.name: _described(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    return {"name": type(settings).__name__, **fields}


def _lines(chosen: _Chosen) -> list[tuple[str, str, _Finished]]:
    """What the table shows, in order: method, budget, and what came of it."""
    lines = [("full", "", chosen.full)]
    for budget in chosen.by_method["ciess"]:
        lines += [(name, str(budget), plans[budget]) for name, plans in chosen.by_method.items()]
    return lines


def _rows(chosen: _Chosen, shown: dict[SizePlan, Evaluation]) -> list[Row]:
    full_quality = float(shown[chosen.full.plan].quality.mean())
    return [
        Row(
            method=method,
            budget=budget,
            metrics=shown[each.plan].means(),
            kept=float(shown[each.plan].quality.mean()) / full_quality,
            valid_quality=float(each.valid.quality.mean()),
            table_bytes=stored_bytes(each.plan) if budget else each.plan.shape.full_bytes,
            user_size=float(each.plan.user_sizes.mean()),
            item_size=float(each.plan.item_sizes.mean()),
            precision=each.plan.precision,
            seconds=each.seconds,
        )
        for method, budget, each in _lines(chosen)
    ]
