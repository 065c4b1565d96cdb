"""How the authors' program trains the model of a plan on ML-1M."""

import dataclasses

from ciess.methods.fidelity import Scratch
from ciess.models import BackboneConfig, Training

_RECIPES = {
    "LightGCN": Training(steps=2000, batch_size=10_000, lr=0.03, lr_every=200, lr_floor=1e-3, l2=1e-4),
    "NGCF": Training(steps=3000, batch_size=10_000, lr=0.03, lr_every=100, lr_floor=1e-3, l2=1e-3),
    "NCF": Training(steps=1500, batch_size=10_000, lr=0.03, lr_every=50, lr_floor=1e-4, l2=1e-2),
}
"""Batches, and when the rate is multiplied by 0.9."""


def published_training(config: BackboneConfig, epochs: int | None = None) -> Scratch:
    """A new model trained by the program's recipe; by the backbone's own where the program has none.

    Args:
        config: of the backbone.
        epochs: passes over the interactions, as the paper's text counts them, instead of the recipe's batches.
    """
    recipe = _RECIPES.get(type(config).__name__)
    return Scratch(recipe and dataclasses.replace(recipe, network_l2=config.training.network_l2), epochs)
