"""`SizePolicy`: what a search has learned, for any rows within any budget, as files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import of_two_lengths
from safetensors.numpy import load_file, save_file

from ciess.data import Split
from ciess.errors import InputError
from ciess.methods.ciess.budgeted import Ciess
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.policy import Applied, SizePolicy, full_rows
from ciess.methods.popularity import Popularity, Rule, desired_sizes
from ciess.methods.problem import Problem
from ciess.tables.budget import Budget
from ciess.tables.files import checksum
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import SizePlan

COUNTS = (np.array([1, 4, 9, 20]), np.array([2, 40, 40]))


def rule() -> SizePolicy:
    return SizePolicy.of_plan(SizePlan(np.array([1, 2, 3, 4]), np.array([2, 8, 8]), 16), COUNTS, "popularity")


def test_a_rule_follows_what_users_and_items_have_now(split: Split) -> None:
    (before, _), (after, _) = of_two_lengths(split), of_two_lengths(split)
    rng = np.random.default_rng(0)
    users, items = (rng.permutation(len(each)) for each in before.popularity)
    after.popularity = (before.popularity[0][users], before.popularity[1][items])
    [budget] = before.budgets
    plan = before.project(desired_sizes(before, Rule(0.3, 0.5, 0.8)), budget)
    followed = Popularity().followed(plan, before, after)
    moved = np.concatenate([plan.user_sizes[users], plan.item_sizes[items]])
    assert np.abs(followed.sizes - moved).mean() < 0.1 < 1 < np.abs(plan.sizes - moved).mean()
    after.popularity = (3 * before.popularity[0], 9 * before.popularity[1])
    followed = Popularity().followed(plan, before, after)
    assert followed.user_sizes.mean() == pytest.approx(plan.user_sizes.mean(), rel=0.03), "a rule compares rows"


@given(
    st.integers(0, 100),
    st.sampled_from(["5%", "17.3%", "60%", "9kB", "100%"]),
    st.sampled_from(["int4", "float32", "tapered:6,4x3,2x28"]),
)
def test_plans_of_other_rows_fill_budgets_and_never_exceed_them(seed: int, budget: str, precision: str) -> None:
    rng = np.random.default_rng(seed)
    counts = (rng.zipf(1.5, 400).clip(max=10**6), rng.integers(0, 90, 300))
    plan = rule().plan(counts, budget, dim=32, precision=precision)
    limit = Budget.parse(budget).limit(plan.shape)
    assert stored_bytes(plan) <= limit
    assert stored_bytes(plan) > 0.97 * limit or plan.sparsity == 0


def test_what_no_plan_can_be_made_of_is_refused() -> None:
    for wanted, told in (
        ({"precision": "tapered"}, "'tapered' tells no bits of dimensions: write them like"),
        ({"precision": "tapered:8x4"}, "has bits for 4 dimensions, and rows have 16"),
        ({"precision": None}, "precision 'None' is unknown"),
        ({"dim": 0}, "dim is 0: give a number from 1"),
        ({"counts": 3}, "counts are of type int: give a pair"),
    ):
        with pytest.raises(InputError, match=told):
            rule().plan(**{"counts": COUNTS, "budget": "60%", **wanted})  # type: ignore[arg-type]


def test_rows_like_those_of_the_plan_get_their_proportions() -> None:
    policy = rule()
    assert policy.sizes(COUNTS).tolist() == pytest.approx([1, 2, 3, 4, 2, 8, 8])
    assert not policy.needs_rows


@pytest.fixture(scope="module")
def actor(split: Split) -> tuple[SizePolicy, Problem]:
    problem, _ = of_two_lengths(split)
    settings = Ciess(td3=TD3Settings(batch_size=64, hidden=8))
    sizes = np.random.default_rng(0).integers(1, 9, problem.shape.rows)
    return settings.learned(problem, SizePlan.from_sizes(sizes, problem.shape)), problem


def test_what_is_loaded_sizes_as_what_was_saved(tmp_path: Path, actor: tuple[SizePolicy, Problem]) -> None:
    looks, problem = actor
    for policy in (rule(), looks):
        found = SizePolicy.load(policy.save(tmp_path))
        assert (found.dim, found.found_by, found.needs_rows) == (policy.dim, policy.found_by, policy.needs_rows)
        args = (problem.popularity, full_rows(problem))
        np.testing.assert_array_equal(found.sizes(*args), policy.sizes(*args))


def test_an_actor_must_be_given_rows(actor: tuple[SizePolicy, Problem]) -> None:
    policy, problem = actor
    with pytest.raises(InputError, match="give its tables, too"):
        policy.plan(problem.popularity, "50%")
    plan = policy.plan(problem.popularity, "60%", rows=full_rows(problem))
    assert plan == Applied(policy).search(problem).best[problem.budgets[0]][0].plan


def arrays_changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change arrays as a stranger would who knows the format: the checksum is right."""
    path = folder / "policy.safetensors"
    found = load_file(path)
    change(found)
    save_file(found, path, {"ciess": "policy"})
    settings_changed(folder, checksum=checksum(path))


def settings_changed(folder: Path, **changes: Any) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update({"users.levels": found["users.levels"] * np.nan}),
        lambda found: found.update({"users.levels": found["users.levels"][1:]}),
        lambda found: found.update({"users.levels": 0 * found["users.levels"]}),
        lambda found: found.update({"users.levels": 1e300 * found["users.levels"]}),
        lambda found: found.update({"items.logs": found["items.logs"][::-1].copy()}),
        lambda found: found.update({"items.logs": found["items.logs"].astype(np.float32)}),
        lambda found: found.pop("items.logs"),
        lambda found: found.update({"users.more": np.zeros(2)}),
        lambda found: found.update({"other.more": np.zeros(2)}),
        lambda found: found.update({"users.logs": np.zeros(0), "users.levels": np.zeros(0)}),
    ],
)
def test_arrays_that_are_no_curves_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rule().save(tmp_path)
    arrays_changed(tmp_path, change)
    with pytest.raises(InputError, match="damaged or was not written by ciess"):
        SizePolicy.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update({"users.0.weight": np.zeros((8, 3), dtype=np.float32)}),
        lambda found: found.update({"users.0.weight": np.zeros(8, dtype=np.float32)}),
        lambda found: found.update({"users.2.bias": np.full(8, np.inf, dtype=np.float32)}),
        lambda found: found.update({"items.spread": 0 * found["items.spread"]}),
        lambda found: found.pop("items.median"),
        lambda found: found.pop("items.4.bias"),
        lambda found: found.update({"items.6.bias": np.zeros(1, dtype=np.float32)}),
    ],
)
def test_arrays_that_are_no_actors_are_refused(
    tmp_path: Path, actor: tuple[SizePolicy, Problem], change: Callable[[dict[str, Any]], object]
) -> None:
    actor[0].save(tmp_path)
    arrays_changed(tmp_path, change)
    with pytest.raises(InputError, match="damaged or was not written by ciess"):
        SizePolicy.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "of format 2, this ciess reads 1"),
        ({"kind": "forest"}, "damaged"),
        ({"kind": "actor"}, "damaged"),
        ({"dim": True}, "damaged"),
        ({"dim": 10**9}, "damaged"),
        ({"found_by": ["x"]}, "damaged"),
        ({"checksum": "00000000"}, "damaged"),
        ({"checksum": None}, "damaged"),
    ],
)
def test_settings_of_strangers_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    rule().save(tmp_path)
    settings_changed(tmp_path, **changes)
    with pytest.raises(InputError, match=told):
        SizePolicy.load(tmp_path)


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no policy.json: name a folder such as runs"):
        SizePolicy.load(tmp_path)
    rule().save(tmp_path)
    (tmp_path / "policy.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        SizePolicy.load(tmp_path)
    (tmp_path / "policy.json").write_text("[" * 10_000)
    with pytest.raises(InputError, match="damaged"):
        SizePolicy.load(tmp_path)
