"""`Recipe`: what all methods of a run share."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ciess.checks import Checked, check, choice
from ciess.errors import InputError
from ciess.experiment.settings import described
from ciess.models import BackboneConfig, backbone_named, backbone_settings
from ciess.tables.precision import Precision
from ciess.train.finish import Finish

Target = Literal["input", "output"]
TestUsers = Literal["sample", "all"]
WantedPrecision = Precision | Literal["tapered"] | None
"""Of all budgets, or what is found for each: the bits of each dimension, or, where it is None, what is best for equal
sizes."""


def parsed_precision(text: str | Precision) -> WantedPrecision:
    """A precision as people write it; None for `auto`.

    Raises:
        InputError: an unknown one.
    """
    choice("precision", text, ("auto", *Precision, "tapered"))
    if text == "tapered":
        return "tapered"
    return None if text == "auto" else Precision.parse(text)


@dataclass(frozen=True)
class Recipe(Checked):
    """What all methods share.

    Attributes:
        config: settings of the backbone.
        finishing: how plans are brought to their best.
        precision: how parameters are stored.
        target: what is packed: `input`, the tables that are learned, or `output`, the final vectors that are scored.
        tune: whether the full model's decisive settings are tuned on validation; those that differ from the
            backbone's defaults are taken as they are given.
        test_users: whose test interactions the table is measured on: `all`, or a `sample` where there are many users.

    Raises:
        InputError: a setting of another type, or a target that is neither.
    """

    config: BackboneConfig
    finishing: Finish = field(default_factory=Finish)
    precision: WantedPrecision = Precision.FLOAT32
    target: Target = "input"
    tune: bool = False
    test_users: TestUsers = "sample"

    @classmethod
    def of(
        cls,
        backbone: str | BackboneConfig,
        finishing: Finish | None,
        precision: str | Precision,
        target: Target,
        tune: bool | None,
        test_users: TestUsers = "sample",
    ) -> "Recipe":
        """From what people write.

        Raises:
            InputError: an unknown backbone or precision.
        """
        if isinstance(backbone, type):
            raise InputError(f"the backbone is the class {backbone.__name__}: give its settings, {backbone.__name__}()")
        config = backbone_named(backbone) if isinstance(backbone, str) else backbone
        check("backbone", config, BackboneConfig)
        stored = parsed_precision(precision)
        wanted = isinstance(backbone, str) if tune is None else tune
        return cls(config, finishing or Finish.suiting(config), stored, target, wanted, test_users)

    @property
    def held(self) -> set[str]:
        """The settings that tuning leaves as they are: those that are not the backbone's defaults."""
        try:
            usual = type(self.config)()
        except (TypeError, InputError):
            return set()
        return {name for name in self.config.tuned if self.config.setting(name) != usual.setting(name)}

    def described(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "backbone": backbone_settings(self.config),
            "finishing": described(self.finishing),
            "precision": self.precision or "auto",
            "target": self.target,
            "tune": self.tune,
            "test_users": self.test_users,
        }
