"""`FullModels`: the full model of one run, trained on train, and trained on as it may learn more."""

from functools import cached_property
from typing import Any, NamedTuple

import torch

from ciess.data import Interactions, Split
from ciess.data.columns import rows_of
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.experiment.clock import Clock
from ciess.experiment.finished import Finished
from ciess.experiment.recipe import Recipe
from ciess.models import Backbone, BackboneConfig, InnerProduct, Training
from ciess.models.factors import FactorsModel
from ciess.models.row_order import check_row_order
from ciess.models.seeded import seeded
from ciess.progress import Progress
from ciess.tables.plan import SizePlan, TableShape
from ciess.train.checkpoint import Kept
from ciess.train.fit import Fitted, fit, fitted_once, while_gaining
from ciess.train.losses import BPR
from ciess.train.tune import tune


class Full(NamedTuple):
    """A full model: as it was trained, the model whose tables are packed, and what it has learned."""

    trained: Backbone
    packed: Backbone
    data: Interactions


@torch.no_grad()
def take_over(model: Backbone, data: Interactions, before: Full) -> None:
    """Give a new model the rows of users and items that an earlier one knows, and its other weights and buffers.

    Args:
        model: built for the data.
        data: whose rows it has.
        before: the earlier one.
    """
    for side in ("user", "item"):
        mine, theirs = (getattr(each, f"{side}_table") for each in (model, before.trained))
        rows = torch.tensor(rows_of(getattr(before.data, f"{side}_ids"), getattr(data, f"{side}_ids")))
        mine[rows >= 0] = theirs[rows[rows >= 0]]
    others = before.trained.beside_tables
    for name, weight in model.beside_tables.items():
        # A buffer of another shape is of the data.
        if weight.shape == others[name].shape:
            weight.copy_(others[name])


class FullModels:
    """The full model of one run, which has learned train, train and validation, or all.

    Args:
        split: learns on train, stops on validation.
        recipe: with the settings to train by.
        valid: measures on validation.
        test: what the table is measured on; None where that is validation.
        seed: of training.
        progress: told every step.
        kept: keeps the models, and how far their training is.
        clock: told what phase the time goes to.

    Attributes:
        config: the settings that are trained by; other ones once they are tuned.
        shape: of the tables that are packed.
        tuning: the settings that were `chosen`, and the `trials` that found them, see `ciess.train.tune`; empty where
            nothing was tuned.

    Raises:
        InputError: outputs are to be packed that are the tables or not scored by inner products.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        valid: Evaluator,
        test: Interactions | None,
        seed: int,
        progress: Progress,
        kept: Kept,
        clock: Clock,
    ) -> None:
        self._split, self._recipe, self._valid, self._test, self._seed = split, recipe, valid, test, seed
        self._progress, self._kept, self._clock = progress, kept, clock
        self.config = recipe.config
        self.tuning: dict[str, Any] = {}
        # Made before training: what cannot be done is refused at once, not after minutes.
        self._trained = self._untrained(split.train)
        if recipe.target == "output" and self._trained.rows_stand_alone:
            name = type(recipe.config).__name__
            raise InputError(f"target output does nothing with {name}, whose rows are scored as they are: leave it out")
        self.untrained = self._packed(self._trained)
        self.shape = TableShape(split.train.n_users, split.train.n_items, self.untrained.user_table.shape[1])
        self._fulls: list[Full] = []
        self._resumes = False

    def tune(self) -> None:
        """Find the decisive settings on validation, before anything is trained."""
        with self._clock.phase("tuning"):
            found = tune(
                self.config,
                self._split,
                held=self._recipe.held,
                valid=self._valid,
                seed=self._seed,
                progress=self._progress,
                kept=self._kept.within("tuned"),
            )
            self.config = found.config
            self._trained = self._untrained(self._split.train)
        if found.trials:
            tuned = [name for name in found.config.tuned if name in found.trials[0]]
            chosen = {name: found.config.setting(name) for name in tuned}
            self.tuning = {"chosen": chosen, "trials": found.trials}

    def resume(self, before: Full) -> None:
        """Start from an earlier model, see `take_over`, and train on wherever more is to be learned."""
        self._resumes = True
        take_over(self._trained, self._split.train, before)

    @property
    def learn(self) -> bool:
        """Whether they learn interactions; tables trained elsewhere are taken as they are."""
        return self.config.training.steps > 0 or not self._trained.rows_stand_alone

    @cached_property
    def finished(self) -> Finished:
        """The one that has learned train, as a plan that keeps everything.

        Raises:
            InputError: it ranks no held-out item of anybody among the first 20.
        """
        with self._clock.phase("fit"):
            train = self._split.train
            fitted = self._fit(self._trained, train, self.config.training, "full model", "train", self._valid)
            if not self._trained.rows_stand_alone:
                check_row_order(self._trained, self.config, train)
            self._fulls.append(self._full(self._trained, train))
            whole = SizePlan.equal(self.shape, self.shape.dim)
            finished = Finished(whole, fitted, evaluate(self._fulls[0].packed, self._valid), fitted.seconds)
        if finished.quality == 0:
            raise InputError(
                "the full model ranks no user's validation items among its first 20, so there is no quality to keep: "
                "train it longer, or check that ids and factors belong together"
            )
        return finished

    def on(self, parts: int) -> Full:
        """The one that has learned the first `parts` of train, validation and test."""
        _ = self.finished
        while len(self._fulls) < parts:
            self._fulls.append(self._grown(self._fulls[-1], self._split.parts[len(self._fulls)]))
        return self._fulls[parts - 1]

    def _grown(self, before: Full, added: Interactions) -> Full:
        """A full model that has learned more interactions, see docs/search.md.

        A solver starts anew and takes as many sweeps as were best: more of them overfit. Others train on.
        """
        data = before.data.union(added)
        if not self.learn:
            return before._replace(data=data)
        config, steps = self.config.on_more(data, self._split.train), self.finished.fitted.steps
        model = self._untrained(data, config)
        anew = model.solver(data) is not None and not self._resumes
        if not anew:
            model.load_state_dict(before.trained.state_dict())
        training = config.training.lasting(steps) if anew else config.training.resumed(steps)
        last = len(self._fulls) == 2
        phase, name = ("full model, test too", "given") if last else ("full model, all data", "all")
        self._fit(model, data, training, phase, name)
        return self._full(model, data)

    def _full(self, trained: Backbone, data: Interactions) -> Full:
        packed = self._packed(trained)
        # Small models that learn from it leave these out.
        packed.learned = data
        return Full(trained, packed, data)

    def shown(self) -> Evaluation:
        """What it comes to on test once it has learned validation, or on validation where there is no test."""
        if self._test is None:
            return self.finished.valid
        with self._clock.phase("builds"):
            full = self.on(2)
        with self._clock.phase("test"):
            return evaluate(full.packed, Evaluator(full.data.matrix, self._test.matrix))

    def _untrained(self, data: Interactions, config: BackboneConfig | None = None) -> Backbone:
        """A new backbone.

        Raises:
            InputError: its tables are not on the CPU.
        """
        with seeded(self._seed):
            model = (config or self.config).build(data, self._seed)
        if (where := model.user_table.device.type) != "cpu":
            raise InputError(f"the tables of {type(model).__name__} are on '{where}': build them on the CPU")
        return model

    def _packed(self, trained: Backbone) -> Backbone:
        """The model whose tables are packed: the trained one, or one whose tables are the rows that it scores."""
        if self._recipe.target == "input" or trained.rows_stand_alone:
            return trained
        if not isinstance(trained, InnerProduct):
            raise InputError("its outputs are not scored by inner products: pack the input")
        outputs = FactorsModel(*(side.detach().numpy() for side in trained.vectors()))
        outputs.order_dimensions()
        return outputs

    def _fit(
        self,
        backbone: Backbone,
        data: Interactions,
        training: Training,
        phase: str,
        name: str,
        valid: Evaluator | None = None,
    ) -> Fitted:
        """Train a full model and put its dimensions in order, or read what an earlier run came to."""

        kept = self._kept.within(name)

        def run(number: int, training: Training) -> Fitted:
            piece = kept.within("run", number)

            def train() -> Fitted:
                with seeded(self._seed):
                    return fit(
                        backbone,
                        backbone.solver(data) or BPR(backbone, data, training, self._seed + number),
                        training,
                        valid=valid,
                        trained=number > 0,
                        seed=self._seed,
                        phase=phase,
                        progress=self._progress,
                        kept=piece.within("steps"),
                    )

            return fitted_once(piece, backbone, train)

        def train() -> Fitted:
            fitted = while_gaining(training, run)
            backbone.order_dimensions()
            return fitted

        fitted = fitted_once(kept, backbone, train, always=True)
        kept.within("run").forget()
        return fitted
