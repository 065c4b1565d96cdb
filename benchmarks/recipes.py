"""What suits a backbone on a data set where it differs from the backbone's own settings, found on validation."""

import ciess
from ciess.models import BackboneConfig, Training, backbone_named
from ciess.train.finish import Finish

_BACKBONES: dict[tuple[str, str], BackboneConfig] = {
    ("gowalla", "als"): ciess.ALS(alpha=31, regularisation=1.5),
    ("gowalla", "lightgcn"): ciess.LightGCN(training=Training(steps=600, batch_size=300_000, lr_every=75, l2=5e-5)),
    ("gowalla", "mf"): ciess.MF(training=Training(steps=1500, batch_size=300_000, lr=0.01, lr_every=150, l2=3e-3)),
}
# Many rows want larger steps of distillation.
_FINISHES = {
    ("gowalla", "lightgcn"): Training(steps=240, batch_size=12_000_000, lr=0.2, lr_every=12, eval_every=60, patience=2),
}


def recipe_of(data: str, backbone: str) -> tuple[BackboneConfig, Finish]:
    """A backbone's settings on a data set of `published.csv`, and how its plans are finished.

    Raises:
        InputError: an unknown backbone.
    """
    key = data, backbone
    config = _BACKBONES.get(key) or backbone_named(backbone)
    return config, Finish(training=_FINISHES[key]) if key in _FINISHES else Finish.suiting(config)
