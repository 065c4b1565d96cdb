"""Just train a smaller one: fewer dimensions, tuned on validation, stored in float32 or rounded to int8."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ciess.data import Split
from ciess.evaluation.metrics import Evaluation, Evaluator, evaluate
from ciess.experiment.bench import Bench
from ciess.experiment.cells import Cells
from ciess.experiment.recipe import Recipe
from ciess.models import backbone_named
from ciess.progress import Progress
from ciess.tables.layout import stored_bytes
from ciess.tables.packed import rounded
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision

BACKBONES = ("als", "mf")
PRECISIONS = (Precision.FLOAT32, Precision.INT8)


class Smaller(NamedTuple):
    """A model with fewer dimensions.

    Attributes:
        backbone: its name.
        plan: as many dimensions for every row as fit, and how they are stored.
    """

    backbone: str
    plan: SizePlan

    @property
    def method(self) -> str:
        """What results are listed under."""
        return f"smaller {self.backbone}, {self.plan.precision}"

    def measured(self, split: Split, seed: int, cells: Path, progress: Progress) -> tuple[Evaluation, dict[str, Any]]:
        """What it comes to on test when it has learned validation too, and the settings that it was tuned to.

        Args:
            split: what it learns, is tuned on and measured on.
            seed: of everything.
            cells: a folder that keeps trained models.
            progress: told every step.
        """
        assert split.test is not None
        recipe = Recipe.of(backbone_named(self.backbone, dim=self.plan.dim), None, "float32", "input", True)
        bench = Bench(split, recipe, seed, progress, Cells(cells, split, recipe, [], seed).full())
        bench.tune()
        model = bench.full_models.on(2).packed
        with torch.no_grad():
            sides = (model.user_table, self.plan.user_sizes), (model.item_table, self.plan.item_sizes)
            for table, sizes in sides:
                table.copy_(torch.from_numpy(rounded(table.numpy(), sizes, self.plan.precision)))
        return evaluate(model, Evaluator(split.train_valid().matrix, split.test.matrix)), bench.full_models.tuning.get(
            "chosen", {}
        )


def smaller_for(limit: int, n_users: int, n_items: int, most: int) -> list[Smaller]:
    """Those that store as many dimensions as fit within a limit of bytes, `most` at most; none where none fit."""
    found = []
    for precision in PRECISIONS:
        plans = (SizePlan.equal(TableShape(n_users, n_items, dim), dim, precision) for dim in range(most, 0, -1))
        plan = next((plan for plan in plans if stored_bytes(plan) <= limit), None)
        found += [Smaller(backbone, plan) for backbone in BACKBONES if plan is not None]
    return found
