import dataclasses

import ciess
from ciess.data import Interactions, Split
from ciess.experiment.outcome import Outcome
from ciess.experiment.pipeline import search
from ciess.experiment.spelling import spelled_call
from ciess.methods.ciess.budgeted import Ciess
from ciess.methods.mixed import MixedRandom
from ciess.models import Training
from ciess.tables.precision import Precision
from ciess.train.finish import Finish

SETTINGS = {
    "backbone": ciess.MF(dim=4, training=Training(steps=2, batch_size=100)),
    "budgets": ("60%",),
    "method": Ciess(episodes=1, steps=1, finish_steps=5, updates=1, start=None),
    "beside": {"mixed random": MixedRandom(seed=2)},
    "finishing": Finish().lasting(0),
    "precision": Precision.INT8,
}


def test_only_what_is_told_is_spelled() -> None:
    call = spelled_call(search, "data", backbone="lightgcn", budgets=("5%",), seed=0, precision="float32")
    assert call == "import ciess\n\noutcome = ciess.search(\n    data,\n    budgets=('5%',),\n)"


def test_settings_in_sequences_are_spelled_and_imported() -> None:
    call = spelled_call(ciess.compare, "data", methods=["ciess", MixedRandom(draws=2)], seeds=(0, 1))
    assert "from ciess.methods.mixed import MixedRandom" in call
    assert "methods=('ciess', MixedRandom(draws=2)),\n    seeds=(0, 1)," in call


def test_a_spelled_call_repeats_the_run(split: Split) -> None:
    names: dict[str, Outcome | Interactions | Split] = {"data": split}
    found = ciess.search(split, **SETTINGS)  # type: ignore[arg-type]
    exec(found.settings["call"], names)
    again = names["outcome"]
    assert isinstance(again, Outcome)
    assert again.settings == found.settings
    assert again.plans == found.plans
    assert [dataclasses.replace(row, seconds=0) for row in again.rows] == [
        dataclasses.replace(row, seconds=0) for row in found.rows
    ]
