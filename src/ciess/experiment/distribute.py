"""`distribute`: one small model whose tables are trained, finished and packed by several processes together."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from ciess.checks import Seed, check
from ciess.data import Split, split_random
from ciess.data.interactions import InteractionsLike
from ciess.data.prepared import split_or_interactions_of
from ciess.errors import InputError
from ciess.experiment.cells import UNFINISHED, Known
from ciess.experiment.keys import digest
from ciess.experiment.recipe import Recipe, parsed_precision
from ciess.experiment.users import measured_users, sampled, tested_part
from ciess.files import check_folder, given_path
from ciess.methods.policy import SizePolicy
from ciess.models import BackboneConfig
from ciess.models.base import TwoTables
from ciess.models.seeded import seeded
from ciess.progress import Progress, silent
from ciess.serve.folder import MODEL_FILES
from ciess.serve.model import CompressedModel
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train.finish import Finish
from ciess.train.sharded import Sharded, check_backbone
from ciess.train.sharded_fit import ShardedEvaluator
from ciess.train.shards import Side, is_first, processes


@dataclass(frozen=True)
class Distributed:
    """What came of `distribute`, the same on all processes.

    Attributes:
        folder: of the saved model.
        processes: how many there were.
        shown: what the metrics are of: `test`, or `validation` where there is no test.
        full: `quality` and the metrics that it is the mean of, of the full model.
        small: the same of the small one.
        table_bytes: of its packed tables.
    """

    folder: Path
    processes: int
    shown: str
    full: Mapping[str, float]
    small: Mapping[str, float]
    table_bytes: int


def distribute(
    data: "InteractionsLike | Split",
    out: str | Path,
    *,
    backbone: str | BackboneConfig = "als",
    budget: str | Budget = "10%",
    policy: SizePolicy | str | Path | None = None,
    precision: str | Precision = Precision.FLOAT32,
    finishing: Finish | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Distributed:
    """Train, finish, pack and save one model, its tables spread by rows over the processes that `torchrun` started.

    Each process reads the data and holds a block of rows, and what training needs for these. Its steps are those that
    one process would take: results differ by rounding alone, however many processes there are. All must see one folder
    `out`, where each measurement on validation leaves a checkpoint: the same call, on any number of processes, goes on
    from there. Called without `torchrun`, one process does it all.

    Args:
        data: as `search` takes it. The model learns train; validation stops its training, and test measures it.
        out: a folder for the model.
        backbone: `mf` or `als`, or settings of these.
        budget: a limit on the bytes of both tables as stored.
        policy: sizes the rows by their interactions, such as that of a search on a sample; None: equal sizes.
        precision: how parameters are stored; one whose rows share no scales.
        finishing: how the plan is brought to its best.
        seed: of the split and of training.
        progress: told every step by the first process.

    Raises:
        InputError: a backbone, precision or policy that is not for several processes, a budget that cannot be met, more
            processes than rows, or a folder that holds something else.
    """
    recipe = Recipe.of(backbone, finishing, precision, "input", False)
    wanted, seed, folder = Budget.parse(budget), check("seed", seed, Seed), given_path("out", out)
    check("progress", progress, Callable)
    stored = check_distributed(recipe.config, folder, precision)
    sizes = SizePolicy.load(policy) if isinstance(policy, str | Path) else check("policy", policy, SizePolicy | None)
    if sizes is not None and sizes.needs_rows:
        raise InputError("the policy looks at full rows, which lie apart here: take one of marginal or popularity")
    found = split_or_interactions_of(data)
    split = found if isinstance(found, Split) else split_random(found, seed=seed)
    plan = _plan(split, recipe.config.dim, wanted, sizes, stored)
    with processes(), seeded(seed):
        return _distributed(split, folder, recipe, plan, str(wanted), seed, progress)


def check_distributed(config: BackboneConfig, out: Path, precision: str | Precision) -> Precision:
    """Refuse, before data are read, other backbones, a folder that is not for the model, and shared scales of rows.

    Raises:
        InputError: one of these is refused.
    """
    check_backbone(config)
    stored = parsed_precision(precision)
    if not isinstance(stored, Precision) or stored.scale_a_group:
        raise InputError(
            f"precision '{precision}' is found or scaled by many rows, which lie apart: "
            "use float32, float16, int8, int6 or int4"
        )
    if is_first():
        # It makes and removes what is not there: two that do so at once would be in each other's way.
        check_folder(out)
    # Hidden files are nobody's results; a model beside what is unfinished is of a run that was stopped as it ended.
    ours = MODEL_FILES if (out / UNFINISHED).exists() else ()
    if held := {name for name in _names_in(out) if not name.startswith(".")} - {*ours}:
        raise InputError(f"{out} holds files already ({min(held)}): choose a new folder, or empty this one")
    return stored


def _names_in(folder: Path) -> list[str]:
    """What a folder holds: nothing where it is none, or where the first process, which tries it, removes it now."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _plan(split: Split, dim: int, budget: Budget, policy: SizePolicy | None, precision: Precision) -> SizePlan:
    """A policy's plan that fills a budget, or that of the largest equal sizes."""
    train = split.train
    if policy is not None:
        return policy.plan((train.user_counts, train.item_counts), budget, dim=dim, precision=precision)
    shape = TableShape(train.n_users, train.n_items, dim)

    def equal(numbers: int) -> SizePlan:
        return SizePlan.equal(shape, numbers // shape.rows, precision)

    return budget.filled(equal, budget.numbers(shape, precision))


def _distributed(
    split: Split, folder: Path, recipe: Recipe, plan: SizePlan, budget: str, seed: int, progress: Progress
) -> Distributed:
    train, told = split.train, progress if dist.get_rank() == 0 else silent
    kept = folder / UNFINISHED / _key(split, recipe, plan, seed)
    model = Sharded(recipe.config, train, seed)
    users = sampled(split.valid, measured_users(train.n_items), seed)
    valid = ShardedEvaluator(model.sides, [train.matrix], split.valid.matrix, users)
    shown, measured = "validation", valid
    if split.test is not None:
        part = tested_part(split.test, recipe.test_users, seed)
        shown, measured = "test", ShardedEvaluator(model.sides, [train.matrix, split.valid.matrix], part.matrix)
    model.fit(valid, kept / "full", told, "full model")
    small, finishing = model.finish(plan, recipe.finishing, valid, kept / "finish", told)
    of_full, of_small = measured.means(model.tables), measured.means(small)
    about = {
        "method": "distribute",
        "budget": budget,
        "seed": seed,
        "processes": dist.get_world_size(),
        **recipe.described(),
        "runs": [run._asdict() for run in finishing.runs],
        "measured": {"shown": shown, "full": of_full, "small": of_small},
    }
    table_bytes = torch.zeros((), dtype=torch.int64)
    gathered = [_gathered(side, table, plan.dim, kept) for side, table in zip(model.sides, small, strict=True)]
    if dist.get_rank() == 0:
        packed = CompressedModel.pack(recipe.config, _Gathered(*gathered), plan, train, about, split.first(3))
        packed.save(folder)
        table_bytes.fill_(packed.table_bytes)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    dist.broadcast(table_bytes, 0)
    return Distributed(folder, dist.get_world_size(), shown, of_full, of_small, int(table_bytes))


def _key(split: Split, recipe: Recipe, plan: SizePlan, seed: int) -> str:
    """What the run's checkpoints are known by: found by the first process, since it reads all data for that."""
    key = torch.zeros((), dtype=torch.int64)
    if dist.get_rank() == 0:
        # Half of it, since the type has a sign.
        key.fill_(int(digest([Known(split, recipe, seed).of_all, plan.digest]), 16) // 2)
    dist.broadcast(key, 0)
    return f"{int(key):016x}"


def _gathered(side: Side, table: Tensor, dim: int, folder: Path) -> NDArray[np.float32]:
    """A whole table, block by block in a file of the first process; that of others is empty."""
    whole = np.empty((0, dim), dtype=np.float32)
    if dist.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        # Without a name: it stays as long as it is mapped, and no longer.
        with tempfile.TemporaryFile(dir=folder) as file:
            whole = np.memmap(file, np.float32, "w+", shape=(side.rows, dim))
    for rows, numbers in side.blocks(table.detach()):
        if len(whole):
            whole[rows, : numbers.shape[1]] = numbers.numpy()
    return whole


class _Gathered(TwoTables):
    """Two whole tables, to be packed."""

    def __init__(self, users: NDArray[np.float32], items: NDArray[np.float32]) -> None:
        super().__init__()
        self.user_table, self.item_table = (nn.Parameter(torch.from_numpy(each)) for each in (users, items))
