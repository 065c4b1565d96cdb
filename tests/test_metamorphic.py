"""What says the same in other words: lines in another order, lines twice, ids renamed in their order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ciess
from ciess.train.finish import Finish

PAIRS = [(u, (7 * u + 3 * s * s) % 31) for u in range(40) for s in range(8)]


def written(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    return path


def plain(pairs: list[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(f"u{user:02}", f"i{item:02}") for user, item in pairs]


def recommended(path: Path) -> list[list[int]]:
    """To every user, as the numbers in the items' ids."""
    backbone = ciess.ALS(dim=8, training=ciess.Training(steps=2, eval_every=1))
    told: dict[str, Any] = {"method": "equal", "budgets": ["60%"], "finishing": Finish().lasting(0)}
    model = ciess.search(path, backbone=backbone, **told).models["60%"]
    return [[int(item[-2:]) for item in model.recommend(user, k=5)[0]] for user in model.user_ids]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    return recommended(written(tmp_path_factory.mktemp("usual") / "lines.csv", plain(PAIRS)))


SAME: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "in another order": lambda: [plain(PAIRS)[at] for at in np.random.default_rng(0).permutation(len(PAIRS))],
    "all twice": lambda: plain(PAIRS) * 2,
    "some twice": lambda: plain(PAIRS + PAIRS[::3]),
    "renamed": lambda: [(f"member {user:02}", f"thing-{item:02}") for user, item in PAIRS],
}


@pytest.mark.parametrize("way", SAME)
def test_the_same_in_other_words_recommends_the_same(way: str, usual: list[list[int]], tmp_path: Path) -> None:
    assert recommended(written(tmp_path / "lines.csv", SAME[way]())) == usual


def test_what_differs_recommends_something_else(usual: list[list[int]], tmp_path: Path) -> None:
    """Else the tests above would say nothing."""
    assert recommended(written(tmp_path / "lines.csv", plain(PAIRS[:-40]))) != usual
