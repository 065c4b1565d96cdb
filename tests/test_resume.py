"""Runs that are stopped and started again: they go on, and end with the bits of a run that nobody stopped."""

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import ciess
from ciess.cli import main
from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.experiment.bench import Bench
from ciess.experiment.cells import UNFINISHED
from ciess.experiment.recipe import Recipe
from ciess.experiment.stream import SegmentRow
from ciess.stopping import Stopped, asked, safe_point, stopping
from ciess.tables.plan import SizePlan
from ciess.train import checkpoint
from ciess.train.checkpoint import Kept, State
from ciess.train.finish import Finish, finish
from ciess.train.fit import fit
from ciess.train.losses import BPR
from ciess.train.tune import Tuned


class Killed(BaseException):
    """What nobody catches."""


@pytest.fixture
def _keeping_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step's state, however short the run is."""
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "_BETWEEN", -1.0)


def killed_at(step: int) -> Callable[..., None]:
    """Progress that ends the run at its n-th step."""
    told: list[str] = []

    def progress(phase: str, *_: object) -> None:
        told.append(phase)
        if len(told) == step:
            raise Killed

    return progress


def killed_until_it_ends(work: Callable[[Callable[..., None]], Any], stride: int) -> tuple[Any, int]:
    """What work comes to that is killed after every so many steps, and how often it was killed."""
    for kills in range(100):
        with suppress(Killed):
            return work(killed_at(stride)), kills
    raise AssertionError("it does not go on")


def killed_by_writes(work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, stride: int) -> tuple[Any, int]:
    """The same, killed after every so many pieces or states that were kept: what is read again is not counted."""
    written: list[str] = []
    write = Kept.write

    def kill(kept: Kept, state: State) -> None:
        write(kept, state)
        written.append(str(kept.path))
        if len(written) % stride == 0:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Kept, "write", kill)
        return killed_until_it_ends(lambda _: work(), 0)


def bits(model: torch.nn.Module) -> list[bytes]:
    return [each.detach().numpy().tobytes() for each in model.parameters()]


MODELS = {
    "mf": ciess.MF(dim=8, training=ciess.Training(steps=40, batch_size=500, eval_every=5, patience=3, nested=True)),
    "ncf": ciess.NCF(dim=8, training=ciess.Training(steps=12, batch_size=500, eval_every=4)),
    "als": ciess.ALS(dim=8, training=ciess.Training(steps=8, eval_every=2)),
    "ngcf": ciess.NGCF(dim=8, training=ciess.Training(steps=6, batch_size=500, eval_every=2)),
}


@pytest.mark.usefixtures("_keeping_all")
@pytest.mark.parametrize("name", MODELS)
def test_a_training_goes_on_with_the_same_bits(name: str, split: Split, tmp_path: Path) -> None:
    """Optimiser, draws, dropout, best state and patience among it."""
    config = MODELS[name]
    valid = Evaluator(split.train.matrix, split.valid.matrix)

    def trained(kept: Kept, progress: Callable[..., None]) -> tuple[Any, ...]:
        model = config.build(split.train, seed=3)
        torch.manual_seed(5)
        lesson = model.solver(split.train) or BPR(model, split.train, config.training, seed=3)
        fitted = fit(model, lesson, config.training, valid=valid, seed=3, progress=progress, kept=kept)
        return fitted.steps, fitted.quality, fitted.gaining, bits(model)

    whole = trained(checkpoint.NOTHING, killed_at(-1))
    again, kills = killed_until_it_ends(lambda progress: trained(Kept(tmp_path, name), progress), 3)
    assert again == whole
    assert kills > 1


@pytest.mark.usefixtures("_keeping_all")
@pytest.mark.parametrize("name", ["mf", "ngcf"])
def test_a_full_model_that_goes_on_while_it_gains_goes_on_with_the_same_bits(
    name: str, split: Split, tmp_path: Path
) -> None:
    """Killed in its first run and in later ones; NGCF counts its draws of dropout from one run to the next."""
    recipe = Recipe.of(MODELS[name].changed(steps=8, eval_every=4, lr=0.015), None, "float32", "input", False)

    def trained(kept: Kept, progress: Callable[..., None]) -> tuple[Any, ...]:
        models = Bench(split, recipe, 3, progress, kept).full_models
        fitted = models.finished.fitted
        return fitted.later, fitted.quality, bits(models.on(2).trained)

    whole = trained(checkpoint.NOTHING, killed_at(-1))
    assert len(whole[0]) > 1, "the case has its point"
    again, kills = killed_until_it_ends(lambda progress: trained(Kept(tmp_path, name), progress), 3)
    assert again == whole
    assert kills > 3


@pytest.mark.usefixtures("_keeping_all")
def test_a_finish_goes_on_with_the_same_bits(split: Split, tmp_path: Path) -> None:
    """Rounded with shared scales, which a state keeps, too."""
    full = MODELS["mf"].build(split.train, seed=0)
    sizes = np.random.default_rng(0).integers(1, 6, split.train.n_users + split.train.n_items)
    users = split.train.n_users
    plan = SizePlan(sizes[:users], sizes[users:], 8, ciess.Precision.INT4_SHARED)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    settings = Finish(training=ciess.Training(steps=25, batch_size=4_000, lr=0.3, eval_every=5))

    def finished(kept: Kept, progress: Callable[..., None]) -> tuple[Any, ...]:
        small, finishing = finish(full, plan, settings, seed=1, valid=valid, progress=progress, kept=kept)
        return finishing.runs, finishing.quality, finishing.converged, bits(small)

    whole = finished(checkpoint.NOTHING, killed_at(-1))
    again, kills = killed_until_it_ends(lambda progress: finished(Kept(tmp_path, "finish"), progress), 7)
    assert again == whole
    assert kills > 2


def test_damage_is_noticed_wherever_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A piece is what was written, or it is not there; of a loop, the state before it is."""
    kept = Kept(tmp_path, "piece")
    kept.write(State({"steps": [1, 0.1]}, {"some": torch.arange(3.0), "none": torch.zeros(0, 2)}))
    assert kept.path is not None
    whole = kept.path.read_bytes()
    for at in range(len(whole)):
        kept.path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        found = kept.read()
        # Spaces that fill the head up tell nothing.
        assert found is None or (found.told == {"steps": [1, 0.1]} and found.tensors["some"].tolist() == [0, 1, 2])
    for end in range(0, len(whole), 7):
        kept.path.write_bytes(whole[:end])
        assert kept.read() is None
    assert f"{kept.path} is damaged: what it held is made anew" in caplog.text
    kept.path.with_suffix(".before.safetensors").write_bytes(whole)
    found = kept.read()
    assert found is not None
    assert found.told == {"steps": [1, 0.1]}


def test_keeping_takes_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a clock of its own: writing takes 3 seconds, a step 10."""
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    written: list[float] = []

    def write(*_: object) -> None:
        now[0] += 3
        written.append(now[0])

    monkeypatch.setattr(checkpoint, "write_whole", write)
    kept = Kept(tmp_path, "loop")
    for _ in kept.within("a").steps(100, {"x": torch.zeros(2)}):
        now[0] += 10
    assert 3 * len(written) <= 0.05 * now[0] + 3
    assert len(written) >= 0.04 * now[0] / 3
    before = len(written)
    kept.within("b").once(lambda: State({}, {}))
    assert len(written) <= before + 1
    kept.within("c").once(lambda: State({}, {}), always=True)
    assert len(written) > before


def stopped(work: Callable[[], object], at_safe_points: bool) -> int:
    with pytest.raises(Stopped) as end:
        _inside(work, at_safe_points)
    assert not asked()
    return end.value.number


def _inside(work: Callable[[], object], at_safe_points: bool) -> None:
    with stopping(at_safe_points):
        work()


def test_the_first_signal_waits_for_a_safe_point_and_the_second_does_not() -> None:
    reached: list[str] = []

    def work(*signals: signal.Signals) -> None:
        for each in signals:
            os.kill(os.getpid(), each)
            reached.append(each.name)
        safe_point()
        reached.append("beyond")

    both = signal.SIGTERM, signal.SIGINT
    assert stopped(lambda: work(signal.SIGTERM), at_safe_points=True) == signal.SIGTERM
    assert stopped(lambda: work(*both), at_safe_points=True) == signal.SIGINT
    assert stopped(lambda: work(*both), at_safe_points=False) == signal.SIGTERM
    assert reached == ["SIGTERM", "SIGTERM"]


def test_a_signal_lets_a_loop_keep_its_last_step(tmp_path: Path) -> None:
    """Whatever the time that was spent on that."""
    value, kept, done = torch.zeros(1), Kept(tmp_path, "loop"), []

    def work() -> None:
        for step in kept.steps(9, {"value": value}):
            value.add_(step)
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    stopped(work, at_safe_points=True)
    value = torch.zeros(1)
    for step in kept.steps(9, {"value": value}):
        value += step
        done.append(step)
    assert done == [5, 6, 7, 8, 9]
    assert value.item() == 45


SEARCHES = [
    "pep:steps=5",
    "dnis:steps=4",
    "autoemb:steps=4",
    "optembed:steps=4,generations=1",
    "marginal:rounds=2,steps=3",
    "ciess:episodes=1,steps=2,finish_steps=3,updates=3",
    "popularity:rounds=2,plans=2",
]


@pytest.mark.usefixtures("_keeping_all")
@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_goes_on_to_the_same_plans(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And to the same trace: what is learned on the way is the same."""
    data = ciess.synthetic(users=40, items=30, mean_count=8).interactions
    few = dataclasses.replace(MODELS["mf"], training=ciess.Training(steps=2, batch_size=500))

    told = {"backbone": few, "budgets": ["60%"], "finishing": Finish().lasting(0), "refit": False}

    def searched(kept: Path | None) -> tuple[Any, ...]:
        outcome = ciess.search(data, method=method, kept=kept, **told)
        return outcome.plans, outcome.trace

    whole = searched(None)
    again, kills = killed_by_writes(lambda: searched(tmp_path), monkeypatch, 6)
    assert again == whole
    assert kills


@pytest.mark.usefixtures("_keeping_all")
def test_a_stream_goes_on_to_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is kept of one is not taken for another's that begins alike, nor of one full model for the other's."""
    monkeypatch.setattr("ciess.experiment.stream.Marginal", ciess.EqualSizes)
    n = 800
    user, item = np.divmod(np.random.default_rng(0).permutation(40 * 30)[:n], 30)
    events = {"user": user, "item": item, "time": np.arange(n)}
    others = {**events, "time": np.where(np.arange(n) < n / 2, np.arange(n), 2 * n - np.arange(n))}
    few = dataclasses.replace(MODELS["mf"], training=ciess.Training(steps=1, batch_size=500))
    told = {"backbone": few, "budget": "60%", "segments": 2, "finishing": Finish().lasting(0)}
    methods = {"pep": ciess.PEP(steps=3), "scall": ciess.SCALL(steps=2, updates=1, groups=4, finalists=1)}

    def rows(events: dict[str, Any], kept: Path | None) -> list[SegmentRow]:
        found = ciess.stream(pl.DataFrame(events), methods=methods, kept=kept, **told)
        assert not any(row.error for row in found)
        return [dataclasses.replace(row, seconds=0) for row in found]

    whole = rows(events, None)
    again, kills = killed_by_writes(lambda: rows(events, tmp_path), monkeypatch, 7)
    assert again == whole
    assert kills > 2
    assert rows(others, tmp_path) == rows(others, None) != whole


# ------------------------------------------------------------------------------------------------ whole commands

DATA = "\n".join(f"{u} " + " ".join(str((u * 7 + 3 * s * s) % 23) for s in range(9)) for u in range(40))
FAST = ["--backbone", "mf", "--dim", "8", "--quiet", "--tune", "off", "--set", "steps=8", "eval_every=4"]
COMMANDS = {
    "search": ["search", "lines.txt", *FAST, "--budgets", "50%", "--method", "equal"],
    "compare": ["compare", "lines.txt", *FAST, "--budgets", "50%", "--methods", "magnitude", "--seeds", "0"],
    "stream": [
        *("stream", "events.csv", "--backbone", "als", "--dim", "8", "--quiet", "--budget", "50%", "--segments", "1"),
        *("--methods", "equal", "--no-retrain"),
    ],
}
"""Without what is told of seconds: of a run that was stopped it is the time of the parts that count."""
TIMES = {"seconds", "trials", "tuning"}


def told(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: told(each) for key, each in value.items() if key not in TIMES}
    return [told(each) for each in value] if isinstance(value, list) else value


def results(folder: Path) -> dict[str, Any]:
    """What a run has left, but for what tells of time."""
    models = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("budget-*/*")}
    return models | {path.name: told(json.loads(path.read_text())) for path in folder.glob("*.json")}


@pytest.fixture
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text(DATA)
    pairs = [(user, item) for user, *items in map(str.split, DATA.splitlines()) for item in items]
    events = (f"{user},{item},{at * 37 % len(pairs)}" for at, (user, item) in enumerate(pairs))
    Path("events.csv").write_text("\n".join(["user,item,time", *events]))


@pytest.mark.usefixtures("_in_a_folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_killed_goes_on(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    for room in ("outcome", "comparison"):
        monkeypatch.setattr(f"ciess.experiment.{room}.report_files", lambda _: {"report.html": "page"})
    # Which `stream` always does, and takes longest.
    monkeypatch.setattr("ciess.experiment.full.tune", lambda config, *_, **__: Tuned(config, []))
    args = [*COMMANDS[command], "--out", "out"]
    main(args)
    whole = results(Path("out"))
    shutil.rmtree("out")

    _, kills = killed_by_writes(lambda: main(args), monkeypatch, 2 if command == "stream" else 3)
    assert kills > 2
    assert results(Path("out")) == whole
    assert not [*Path("out").rglob(UNFINISHED)]
