"""`ciess demo`."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ciess.cli.options import Count, Flat, Folder, Printing
from ciess.cli.results import own_folder, search_and_show


@dataclass(frozen=True)
class Demo:
    """Go the whole way on an embedded data set: search, report, recommend."""

    out: Folder = Path("runs/demo")
    """For models and report"""
    seed: Count[int] = 0
    """Of the data, of training and of the search"""
    printing: Flat[Printing] = field(default_factory=Printing)

    def run(self, console: Console) -> None:
        """Search sizes for the synthetic set, then recommend with the smallest model."""
        from ciess.data import synthetic
        from ciess.experiment.runs import RESULT
        from ciess.models import Training, backbone_named
        from ciess.serve.saved import load
        from ciess.tables.budget import Budget

        data = synthetic(seed=self.seed).interactions
        backbone = backbone_named("lightgcn", dim=32, training=Training(batch_size=20_000, l2=0.01))
        budgets = [Budget.parse(budget) for budget in ("20%", "10%")]
        with own_folder(self, RESULT):
            saved = search_and_show(self, data, console, backbone=backbone, budgets=budgets, seed=self.seed)
        user = data.user_ids[0]
        items, _ = load(saved[-1]).recommend(user, k=5)
        console.print(
            f"The model in {saved[-1]} recommends to user {user}: {', '.join(map(str, items))}", soft_wrap=True
        )
