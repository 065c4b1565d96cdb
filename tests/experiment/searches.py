"""Small searches that tests of whole ones share."""

import dataclasses
from typing import Any

import ciess
from ciess.data import Interactions, Split
from ciess.experiment.outcome import Outcome
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.popularity import Popularity
from ciess.models import Training
from ciess.train.finish import Finish

QUICK = ciess.Ciess(
    episodes=2,
    steps=1,
    finish_steps=5,
    updates=1,
    start=Popularity(rounds=1),
    td3=TD3Settings(batch_size=256, hidden=32),
)
BACKBONE = ciess.LightGCN(dim=16, training=Training(steps=50, batch_size=2_000, l2=0.02))

SHORT = dataclasses.replace(BACKBONE, training=Training(steps=30, batch_size=2_000, l2=0.02))


CUT = Finish().lasting(0)
BRIEF = Finish.suiting(BACKBONE).shortened(12)
PLAIN = ciess.ALS(dim=16, training=Training(steps=3, eval_every=1))


def search(data: Interactions | Split, seed: int = 0) -> Outcome:
    return ciess.search(data, backbone=BACKBONE, budgets=["30%", "15%"], method=QUICK, finishing=BRIEF, seed=seed)


def quick(data: Interactions | Split, **settings: Any) -> Outcome:
    """As `search`, for one budget and without a graph."""
    given = {"backbone": PLAIN, "budgets": ["30%"], "method": QUICK, "finishing": BRIEF, **settings}
    return ciess.search(data, **given)


def plain(data: Interactions | Split, **settings: Any) -> Outcome:
    """Without gradients, and so in a moment."""
    given = {"backbone": PLAIN, "budgets": ["40%"], "method": "equal", "finishing": CUT, **settings}
    return ciess.search(data, **given)
