from pathlib import Path

import pytest

import ciess
from ciess.data import Split
from ciess.experiment.comparison import Comparison
from ciess.experiment.outcome import Outcome
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity
from ciess.models import Training
from ciess.report import Report, searched
from ciess.train.finish import Finish

BRIEF = Finish(training=ciess.ALS().distillation.lasting(12))


@pytest.fixture(scope="session")
def outcome(split: Split) -> Outcome:
    """A quick search with a method beside CIESS."""
    return ciess.search(
        split,
        backbone=ciess.MF(dim=16, training=Training(steps=60, batch_size=2_000)),
        budgets=["40%", "20%"],
        method=ciess.Ciess(episodes=2, steps=1, finish_steps=5, updates=1, start=Popularity(rounds=1)),
        beside={"mixed <random>|": MixedRandom()},
        finishing=BRIEF,
    )


@pytest.fixture(scope="session")
def report(outcome: Outcome) -> Report:
    """What it says."""
    return searched(outcome)


@pytest.fixture(scope="session")
def comparison(split: Split) -> Comparison:
    """Quick methods side by side."""
    methods = {"mixed <random>|": MixedRandom(), "popularity": Popularity(rounds=1), "ciess": MixedRandom(draws=2)}
    told = {"backbone": ciess.ALS(dim=16), "budgets": ["40%", "20%"], "seeds": [0, 1], "finishing": BRIEF}
    return ciess.compare(split, methods=methods, **told)


@pytest.fixture(scope="session")
def compared_folder(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its report is."""
    return comparison.report(tmp_path_factory.mktemp("compared")).parent


@pytest.fixture(scope="session")
def folder(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its report is."""
    folder = tmp_path_factory.mktemp("report")
    outcome.report(folder)
    return folder
