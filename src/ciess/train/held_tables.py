"""The tables of a backbone while they are trained: held to a size plan, and as its precision stores them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ciess.models.base import Backbone
from ciess.tables.encoding import Encoding
from ciess.tables.mask import prefix_mask
from ciess.tables.packed import shared_scales
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.tables.taper import Taper
from ciess.train.checkpoint import State
from ciess.train.truncate import rounded_tables

SMALLEST_SCALE = 1e-3
"""What a parameter of zeros, such as a bias, counts as."""
_STEPS_BETWEEN_SCALES = 10
"""Finding the best scales takes longer than a step on small tables; they change slowly."""
_WIDTHS = 16
"""Products of tables whose width is a multiple of this take less time than of those that are a little narrower."""


class HeldTables:
    """The tables while they are trained: cut to a plan, and hardly wider than its largest size if columns are apart."""

    def __init__(self, backbone: Backbone, plan: SizePlan | None) -> None:
        self._backbone = backbone
        self._dim = backbone.user_table.shape[1]
        width = self._dim
        if plan is not None and backbone.separable:
            width = min(width, -(-plan.max_size // _WIDTHS) * _WIDTHS)
        full = (backbone.user_table, backbone.item_table)
        self.users, self.items = (nn.Parameter(table.detach()[:, :width].clone()) for table in full)
        self._plan, self._masks, self._scales = plan, list[Tensor](), list[Tensor]()
        if plan is not None:
            self._masks = [prefix_mask(sizes, width) for sizes in (plan.user_sizes, plan.item_sizes)]
        self.cut()

    def state(self) -> State:
        """See `Resumable`: the scales of the moment; the tables are parts of their own."""
        return State({}, {str(side): scales for side, scales in enumerate(self._scales)})

    def restore(self, state: State) -> None:
        """See `Resumable`."""
        self._scales = [state.tensors[name] for name in sorted(state.tensors)]

    @torch.no_grad()
    def rates(self, of: Backbone) -> list[float]:
        """Root mean squares of a model's user and item table, where the plan keeps them, and of its network's
        parameters, at least SMALLEST_SCALE, times its rate."""
        width = self.users.shape[1]
        kept = [
            (table[:, :width].square() * mask).sum() / mask.sum()
            for table, mask in zip((of.user_table, of.item_table), self._masks, strict=True)
        ]
        squares = [*kept, *(parameter.square().mean() for parameter in of.network.values())]
        return [of.distillation_rate * max(SMALLEST_SCALE, float(square.sqrt())) for square in squares]

    def seen(self, step: int) -> tuple[Tensor, Tensor]:
        """Both tables as losses see them, see `sees_rounding`, with the gradient of tables that are not rounded."""
        if self._plan is None or not sees_rounding(self._plan.precision):
            return self.users, self.items
        # Those of dimensions stay: found anew they would follow the rows, which follow them.
        if not self._scales or (step % _STEPS_BETWEEN_SCALES == 1 and not self._plan.precision.scale_a_dimension):
            sides = (self.users, self._plan.user_sizes), (self.items, self._plan.item_sizes)
            precision = self._plan.precision
            found = (shared_scales(table.detach().numpy(), sizes, precision) for table, sizes in sides)
            self._scales = [torch.from_numpy(scales) for scales in found]
        users, items = (
            table + (near - table).detach() for table, near in zip((self.users, self.items), self._near(), strict=True)
        )
        return users, items

    @torch.no_grad()
    def stored(self) -> tuple[Tensor, Tensor]:
        """Both tables as the plan stores them."""
        if self._plan is None:
            return self.users, self.items
        if self._scales:
            users, items = self._near()
            return users, items
        return rounded_tables(self.users, self.items, self._plan)

    @torch.no_grad()
    def take(self, users: Tensor, items: Tensor) -> None:
        """Go back to tables as they were stored."""
        self.users.copy_(users)
        self.items.copy_(items)
        # What was rounded once, with whatever scales, is rounded to itself.
        self._scales = []

    def _near(self) -> list[Tensor]:
        """Both tables rounded with the scales of the moment."""
        assert self._plan is not None
        sides = zip((self.users, self.items), self._scales, self._masks, strict=True)
        return [_nearest(table.detach(), scales, self._plan.precision) * mask for table, scales, mask in sides]

    @torch.no_grad()
    def cut(self) -> None:
        """Zero what the plan does not keep. Adam's steps are elementwise, so this equals training the kept numbers."""
        for table, mask in zip((self.users, self.items), self._masks, strict=False):
            table.mul_(mask)

    @torch.no_grad()
    def write_back(self) -> None:
        """Put the trained tables into the backbone."""
        for name, table in zip(("user_table", "item_table"), self.stored(), strict=True):
            getattr(self._backbone, name).copy_(pad(table, (0, self._dim - table.shape[1])))


def sees_rounding(precision: Encoding) -> bool:
    """Whether losses see tables rounded: where rows share scales.

    Where each row has a scale of its own, rounding at the end loses no more (docs/search.md).
    """
    return precision.whole and not precision.scale_a_row


def _nearest(table: Tensor, scales: Tensor, precision: Encoding) -> Tensor:
    """A table rounded with some scales."""
    numbers = table / scales
    if isinstance(precision, Taper):
        halves = torch.from_numpy(precision.halves(table.shape[1]))
        return (numbers.floor() + 0.5).clamp(0.5 - halves, halves - 0.5) * scales
    assert isinstance(precision, Precision)
    return numbers.round().clamp(-precision.largest, precision.largest) * scales
