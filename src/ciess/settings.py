"""Settings as JSON keeps them."""

import dataclasses
from typing import Any


def described(settings: Any) -> Any:
    """Dataclasses as dictionaries of their fields, each with the name of its class."""
    if not dataclasses.is_dataclass(settings):
        return settings
    fields = {field.name: described(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    return {"name": type(settings).__name__, **fields}
