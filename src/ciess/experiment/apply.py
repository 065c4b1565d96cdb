"""`apply`: models for data whose rows a policy sizes, without a search."""

from collections.abc import Sequence
from pathlib import Path

from ciess.data import Split
from ciess.data.interactions import InteractionsLike
from ciess.errors import InputError
from ciess.experiment.outcome import Outcome
from ciess.experiment.pipeline import search
from ciess.experiment.recipe import Target, TestUsers
from ciess.methods.policy import Applied, SizePolicy
from ciess.models import BackboneConfig
from ciess.progress import Progress, silent
from ciess.tables.budget import Budget
from ciess.tables.precision import Precision
from ciess.train.finish import Finish


def apply(
    policy: SizePolicy | str | Path,
    data: "InteractionsLike | Split",
    *,
    backbone: str | BackboneConfig = "lightgcn",
    budgets: str | Budget | Sequence[str | Budget] = ("20%", "10%", "5%"),
    finishing: Finish | None = None,
    precision: str | Precision = Precision.FLOAT32,
    target: Target = "input",
    tune: bool | None = None,
    refit: bool = True,
    test_users: TestUsers = "sample",
    force: bool = False,
    seed: int = 0,
    kept: str | Path | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Size rows by a policy, that of other or fewer data maybe, and do all else as `search` does.

    Equal sizes are measured beside it, and kept unless it is ahead of them on validation by more than the standard
    error, as `search` does.

    Args:
        policy: what a search has learned, or the folder that holds it.
        data: as `search` takes it; so are the other settings.
        backbone: a name, or a backbone's settings.
        budgets: limits on the bytes of both tables as stored.
        finishing: how plans are brought to their best.
        precision: how parameters are stored.
        target: what is packed.
        tune: whether the full model's decisive settings are tuned first.
        refit: whether the models given back learn all that was given.
        test_users: whom models are measured on.
        force: whether to try even what would not fit into the memory that is available.
        seed: of the split and of training.
        kept: a folder that keeps what is done.
        progress: told every step.

    Raises:
        InputError: `policy` is none, or learned from rows of another width; or as `search` does.
    """
    found = SizePolicy.load(policy) if isinstance(policy, str | Path) else policy
    if not isinstance(found, SizePolicy):
        raise InputError(f"policy is of type {type(policy).__name__}: give a SizePolicy, or the folder that holds one")
    return search(
        data,
        backbone=backbone,
        budgets=budgets,
        method=Applied(found),
        finishing=finishing,
        precision=precision,
        target=target,
        tune=tune,
        refit=refit,
        test_users=test_users,
        force=force,
        seed=seed,
        kept=kept,
        progress=progress,
    )
