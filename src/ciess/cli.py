"""The command `ciess`: the same verbs as in Python."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ciess.errors import InputError

if TYPE_CHECKING:
    from ciess.backbones import BackboneConfig
    from ciess.data import Interactions, Split
    from ciess.methods.ciess import Ciess
    from ciess.outcome import Outcome


PrecisionName = Literal["auto", "float32", "float16", "int8", "int4", "int4-shared"]


@dataclass(frozen=True)
class Columns:
    """Names of the data's columns, where they are not the usual ones."""

    user: str | None = None
    """Ids of users."""
    item: str | None = None
    """Ids of items."""
    rating: str | None = None
    """Ratings."""
    time: str | None = None
    """Timestamps."""


@dataclass(frozen=True)
class Search:
    """Find small models for your interactions, one for each budget."""

    data: tyro.conf.Positional[Path | None] = None
    """File or folder of interactions, split 50/25/25 for each user at random."""
    train: Path | None = None
    """In place of DATA: interactions to learn."""
    valid: Path | None = None
    """With --train: interactions that choices are made on."""
    test: Path | None = None
    """With --train: what the table shows; without it, the table shows validation."""
    backbone: str = "lightgcn"
    """The recommender: lightgcn, mf, ncf, ngcf, als, or factors for tables that you have trained elsewhere."""
    user_factors: Path | None = None
    """With --backbone factors: a .npy file with a row of numbers for each user, ids in rising order."""
    item_factors: Path | None = None
    """With --backbone factors: the same for each item."""
    dim: int | None = None
    """Numbers of a full row: 128, 256 with ncf, which has two tables in one; factors have as many as their files."""
    budgets: tuple[str, ...] = ("20%", "10%", "5%")
    """Limits on the bytes of both tables, such as 5% 32MB 6.4dims."""
    precision: PrecisionName = "float32"
    """How numbers are stored: floats, or whole numbers with a scale a row, or one for all rows of a size."""
    target: Literal["input", "output"] = "input"
    """What is packed: the tables that are learned, or the rows that are scored, which need no graph any more."""
    seed: int = 0
    """Of the split, of training and of the search."""
    preset: Literal["default", "paper", "program"] = "default"
    """CIESS as it measured best here, as its paper says (a training for each plan), or as its authors' program does."""
    episodes: int | None = None
    """Episodes of the search: fewer are faster."""
    out: Path = Path("runs/search")
    """Folder for the models and result.json."""
    min_rating: float | None = None
    """Keep interactions rated at least this."""
    k_core: int = 1
    """Keep users and items with at least this many interactions."""
    columns: Columns = field(default_factory=Columns)

    def run(self, console: Console) -> None:
        """Search, save, print the table."""
        from ciess.tables.budget import Budget

        # What can be refused at once is refused before data are read.
        config = self._backbone()
        budgets = [Budget.parse(budget) for budget in self.budgets]
        method = self._method()
        _search(
            self._data(),
            self.out,
            console,
            backbone=config,
            budgets=budgets,
            method=method,
            precision=self.precision,
            target=self.target,
            seed=self.seed,
        )

    def _method(self) -> "Ciess":
        from ciess.methods.ciess import Ciess

        method = {"default": Ciess(), "paper": Ciess.paper(), "program": Ciess.program()}[self.preset]
        return method if self.episodes is None else replace(method, episodes=self.episodes)

    def _backbone(self) -> "BackboneConfig":
        from ciess.backbones import backbone_named

        if self.backbone.lower() != "factors":
            if self.user_factors or self.item_factors:
                raise InputError("--user-factors and --item-factors need --backbone factors: name it")
            return backbone_named(self.backbone, **({} if self.dim is None else {"dim": self.dim}))
        if self.user_factors is None or self.item_factors is None:
            raise InputError("--backbone factors needs two tables: name both --user-factors and --item-factors")
        return backbone_named("factors", users=self.user_factors, items=self.item_factors)

    def _data(self) -> "Interactions | Split":
        from ciess.data import split_given

        if self.data is not None:
            if self.train or self.valid or self.test:
                raise InputError("DATA and --train are both given: name one of them")
            return self._read(self.data)
        if self.train is None or self.valid is None:
            raise InputError("no interactions are given: name DATA, or both --train and --valid")
        test = self._read(self.test) if self.test else None
        return split_given(self._read(self.train), self._read(self.valid), test)

    def _read(self, path: Path) -> "Interactions":
        from ciess.data import read

        names = self.columns
        interactions = read(
            path, user=names.user, item=names.item, rating=names.rating, time=names.time, min_rating=self.min_rating
        )
        return interactions.k_core(self.k_core) if self.k_core > 1 else interactions


@dataclass(frozen=True)
class Compress:
    """Make tables small that you have trained elsewhere."""

    users: Path
    """A .npy file with a row of numbers for each user; inner products with the items' rows are scores."""
    items: Path
    """The same for each item."""
    interactions: Path
    """Interactions of the same users and items: a file as `search` reads it, or a matrix of scipy.sparse.save_npz."""
    budget: tuple[str, ...] = ("5%",)
    """Limits on the bytes of both tables, such as 5% 32MB 6.4dims."""
    precision: PrecisionName = "auto"
    """How numbers are stored; auto takes what is best for each budget."""
    seed: int = 0
    """Of everything random."""
    out: Path = Path("runs/compress")
    """Folder for the models and result.json."""
    columns: Columns = field(default_factory=Columns)

    def run(self, console: Console) -> None:
        """Compress, save, print the table."""
        from ciess.backbones.factors import Factors
        from ciess.compressing import compress
        from ciess.data import read
        from ciess.progress import ConsoleProgress
        from ciess.tables.budget import Budget

        budgets = [Budget.parse(budget) for budget in self.budget]
        factors = Factors(users=self.users, items=self.items)
        names = self.columns
        data = read(self.interactions, user=names.user, item=names.item, rating=names.rating, time=names.time)
        with ConsoleProgress(console) as progress:
            outcome = compress(
                factors, data, budgets=budgets, precision=self.precision, seed=self.seed, progress=progress
            )
        _show(outcome, self.out, console)


@dataclass(frozen=True)
class Recommend:
    """Recommend items to users with a saved model."""

    model: tyro.conf.Positional[Path]
    """A folder that `ciess search` saved, such as runs/search/budget-5."""
    users: tuple[str, ...]
    """Ids of users."""
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10
    """How many items for each."""
    include_seen: bool = False
    """Recommend items that the user has already, too."""

    def run(self, console: Console) -> None:
        """Print a line for each user."""
        from ciess.saved import load

        model = load(self.model)
        items, scores = model.recommend(list(self.users), self.k, exclude_seen=not self.include_seen)
        for user, known, row, values in zip(self.users, model.known(list(self.users)), items, scores, strict=True):
            found = [f"{item} ({score:.3f})" if known else str(item) for item, score in zip(row, values, strict=True)]
            told = ", ".join(entry for entry, item in zip(found, row, strict=True) if item is not None)
            note = "" if known else " (unknown user: popular items)"
            console.print(f"{user}{note}: {told}", highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True)
class Export:
    """Write a saved model as other programs read it."""

    model: tyro.conf.Positional[Path]
    """A folder that `ciess search` saved, such as runs/search/budget-5."""
    target: tyro.conf.Positional[str]
    """faiss, parquet, arrays, onnx or torchrec."""
    out: tyro.conf.Positional[Path]
    """Folder for the files."""

    def run(self, console: Console) -> None:
        """Write the files, print their names."""
        from ciess import load
        from ciess.export import export

        for path in export(load(self.model), self.target, self.out):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True)
class Demo:
    """The whole way on an embedded data set: search, table, saved model, recommendations."""

    out: Path = Path("runs/demo")
    """Folder for the models and result.json."""
    seed: int = 0
    """Of the data, of training and of the search."""

    def run(self, console: Console) -> None:
        """Search sizes for the synthetic set, then recommend with the smallest model."""
        from ciess.backbones import Training, backbone_named
        from ciess.data import synthetic
        from ciess.saved import load
        from ciess.tables.budget import Budget

        data = synthetic(seed=self.seed).interactions
        backbone = backbone_named("lightgcn", dim=32, training=Training(batch_size=20_000, l2=0.01))
        budgets = [Budget.parse(budget) for budget in ("20%", "10%")]
        saved = _search(data, self.out, console, backbone=backbone, budgets=budgets, seed=self.seed)
        user = data.user_ids[0]
        items, _ = load(saved[-1]).recommend(user, k=5)
        console.print(
            f"The model in {saved[-1]} recommends to user {user}: {', '.join(map(str, items))}", soft_wrap=True
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. Bad input ends with exit code 2 and one sentence."""
    command: Search | Compress | Recommend | Export | Demo = tyro.extras.subcommand_cli_from_dict(
        {"search": Search, "compress": Compress, "recommend": Recommend, "export": Export, "demo": Demo},
        prog="ciess",
        description="Small recommenders: an embedding size for every user and item, under a memory budget.",
        args=args,
    )
    try:
        command.run(Console())
    except InputError as error:
        print(f"ciess: {error}", file=sys.stderr)
        sys.exit(2)


def _search(data: "Interactions | Split", out: Path, console: Console, **settings: Any) -> list[Path]:
    """Search as `ciess.search` does, save, and print the table."""
    from ciess.pipeline import search
    from ciess.progress import ConsoleProgress

    with ConsoleProgress(console) as progress:
        outcome = search(data, progress=progress, **settings)
    return _show(outcome, out, console)


def _show(outcome: "Outcome", out: Path, console: Console) -> list[Path]:
    """Save the models, print the table and where they are."""
    saved = list(outcome.save(out).values())
    console.print(_table(outcome))
    for folder in saved:
        console.print(f"saved {folder}", highlight=False, soft_wrap=True)
    return saved


def _table(outcome: "Outcome") -> Table:
    table = Table(title=f"Measured on {outcome.shown}; sizes are means", box=None, padding=(0, 1, 0, 0))
    for heading in (
        "model",
        "budget",
        "Recall@20",
        "NDCG@20",
        "kept",
        "bytes",
        "stored",
        "users'",
        "items'",
        "seconds",
    ):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for row in outcome.rows:
        table.add_row(
            row.method,
            row.budget,
            f"{row.metrics['recall@20']:.4f}",
            f"{row.metrics['ndcg@20']:.4f}",
            f"{row.kept:.1%}",
            f"{row.table_bytes:,}",
            row.precision,
            f"{row.user_size:.1f}",
            f"{row.item_size:.1f}",
            f"{row.seconds:.0f}",
        )
    return table
