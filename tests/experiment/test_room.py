from pathlib import Path

import numpy as np
import pytest

import ciess
from ciess.cli import main
from ciess.data import Split
from ciess.errors import InputError
from ciess.experiment.room import available_memory, check_room
from ciess.methods.policy import SizePolicy
from ciess.models.mf import MF
from ciess.tables.curve import Curve
from ciess.tables.plan import TableShape


def test_memory_is_the_least_of_machine_and_container(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) is None
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    700 kB\n")
    assert available_memory(tmp_path, tmp_path) == 700 * 1024
    for limit, used, expected in (("max", "10", 700 * 1024), ("500000", "200000", 300_000), ("10", "20", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        assert available_memory(tmp_path, tmp_path) == expected


def test_the_dimensions_that_are_told_fit_and_no_more_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = TableShape(100_000, 20_000, 128)
    monkeypatch.setattr("ciess.experiment.room.available_memory", lambda: 800 * 10**6)
    with pytest.raises(InputError, match=r"GiB of memory and 0\.7 GiB are available: take \d+ dimensions") as refused:
        check_room(shape, 10**6, None, fixed=False)
    fitting = int(str(refused.value).split("take ")[1].split()[0])
    check_room(shape._replace(dim=fitting), 10**6, None, fixed=False)
    with pytest.raises(InputError, match="take fewer users"):
        check_room(shape._replace(dim=fitting + 1), 10**6, None, fixed=True)


@pytest.mark.parametrize("what", ["search", "compare", "compress", "apply"])
def test_what_does_not_fit_is_refused_before_training_unless_it_is_forced(
    what: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ciess.experiment.room.available_memory", lambda: 10**6)
    trained: list[object] = []

    def train(*_: object, **__: object) -> None:
        trained.append(1)
        raise InputError("trained")

    monkeypatch.setattr("ciess.experiment.full.fit", train)
    rng = np.random.default_rng(0)
    factors = rng.random((split.train.n_users, 4)), rng.random((split.train.n_items, 4))

    def run(force: bool) -> object:
        if what == "compress":
            return ciess.compress(factors, split.train, budgets="50%", force=force)
        options = {"backbone": MF(dim=4), "budgets": "50%", "force": force}
        if what == "apply":
            curve = Curve.fitted(np.ones(2, int), np.ones(2, int))
            return ciess.apply(SizePolicy(curve, curve, dim=4), split, **options)
        return ciess.search(split, **options) if what == "search" else ciess.compare(split, methods="equal", **options)

    with pytest.raises(InputError, match="or force it"):
        run(force=False)
    assert not trained
    if what in ("search", "apply"):
        with pytest.raises(InputError, match="trained"):
            run(force=True)


def test_the_command_line_refuses_it_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ciess.experiment.room.available_memory", lambda: 10**6)
    with pytest.raises(SystemExit) as end:
        main(["search", "synthetic", "--backbone", "mf", "--tune", "off", "--out", str(tmp_path)])
    assert end.value.code == 2
    assert "or force it" in capsys.readouterr().err
