"""What a recommender must offer so that its tables can be sized."""

import copy
import dataclasses
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from ciess.checks import Checked, Count, Dim, NotNegative, Positive, Share
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models.seeded import seeded
from ciess.tables.order import importance_rotation
from ciess.tables.plan import SizePlan

# Every user would see it once a run; what is used here has been stable for years.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")

# A forked process has none of the threads that PyTorch started before, and would wait for them for ever: it computes
# with one thread, as PyTorch's own data loaders do.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


_TABLES = ("user_table", "item_table")
_TRIPLETS, _TRIPLETS_A_ROW = 50_000, 5
USUAL_SCALE = 0.1
"""Root mean square of new tables; recipes' learning rates are meant for it."""
_TRIED_STEPS = 240
"""Of training, at most, where settings are tried."""


class Represented(NamedTuple):
    """The vectors that are scored: users (n_users, width), items (n_items, width)."""

    users: Tensor
    items: Tensor


class Solver(ABC):
    """Trains tables without gradients: each call is a step to better ones."""

    @abstractmethod
    def __call__(self, user_table: Tensor, item_table: Tensor) -> tuple[Tensor, Tensor]:
        """From user and item tables, (n, width) each, to new ones of the same shapes."""


class Backbone(nn.Module, ABC):
    """A recommender with one table for users and one for items, whose rows can be cut short.

    A subclass sets `user_table` (n_users, dim) and `item_table` (n_items, dim), and says how users and items
    are scored. Tables are arguments of `represent` so that shortened ones can be tried without a copy of the model.
    """

    user_table: nn.Parameter
    item_table: nn.Parameter
    separable: ClassVar[bool] = False
    """Whether vectors are linear in the tables and each column of the tables only reaches the same column of them."""
    rows_stand_alone: ClassVar[bool] = False
    """Whether the tables are the vectors: no graph or network makes up for what a row loses when it is cut short."""
    through_graph: ClassVar[bool] = False
    """Whether a vector is mixed from the rows of its neighbours, which make up for what its own loses."""
    learned: Interactions | None = None
    """What it has learned, where that is told: users are not recommended these, so small models do not learn them."""
    distillation_rate: ClassVar[float] = 1.0
    """What the learning rates of distillation are multiplied by: less where a network serves all rows at once."""

    def represent(self, user_table: Tensor, item_table: Tensor) -> Represented:
        """From tables (n, width) to the vectors that are scored. Default: the tables themselves."""
        return Represented(user_table, item_table)

    @abstractmethod
    def score(self, vectors: Represented, users: Tensor, items: Tensor) -> Tensor:
        """Score each user against its own items.

        Args:
            vectors: what `represent` returned.
            users: (b,) rows in rising order.
            items: (b, m) rows.

        Returns:
            (b, m) scores.
        """

    @abstractmethod
    def score_all(self, vectors: Represented, users: Tensor) -> Tensor:
        """Score users, (b,) rows, against every item that has a vector in `vectors`: (b, n_items)."""

    def order_dimensions(self) -> None:
        """Bring the columns of trained tables in order of falling importance, in place; every score stays the same.

        Default: they stay as they are. Then train with `Training.nested`, which orders them by itself.
        """

    def solver(self, train: Interactions, plan: SizePlan | None = None) -> Solver | None:
        """What trains the tables on `train` within a plan's sizes. Default None: they descend by gradients."""
        return None

    @torch.no_grad()
    def vectors(self, user_table: Tensor | None = None, item_table: Tensor | None = None) -> Represented:
        """The vectors of the model as it stands, or with other tables: no gradient, and no dropout in any mode."""
        mode = self.training
        self.eval()
        try:
            return self.represent(
                self.user_table if user_table is None else user_table,
                self.item_table if item_table is None else item_table,
            )
        finally:
            self.train(mode)

    def copied(self) -> Self:
        """A copy to train. Buffers, such as a graph, and what was learned never change: both share them."""
        shared = [*self.buffers(), self.learned]
        return copy.deepcopy(self, {id(each): each for each in shared})

    @property
    def network(self) -> dict[str, nn.Parameter]:
        """What is learned beside the two tables, by the names of its parameters."""
        return {name: p for name, p in self.named_parameters() if name not in _TABLES}

    @property
    def beside_tables(self) -> dict[str, Tensor]:
        """What a saved model keeps beside the two tables: the network and persistent dense buffers, by name."""
        state = self.state_dict().items()
        return {name: each for name, each in state if name not in _TABLES and each.layout is torch.strided}


class InnerProduct(Backbone):
    """A backbone that scores by inner products of its vectors."""

    def score(self, vectors: Represented, users: Tensor, items: Tensor) -> Tensor:
        """Inner products, see `Backbone.score`."""
        return inner_products(vectors, users, items)

    def score_all(self, vectors: Represented, users: Tensor) -> Tensor:
        """Inner products with every item, see `Backbone.score_all`."""
        return vectors.users[users] @ vectors.items.T


class Rotatable(InnerProduct):
    """Inner products of vectors that are linear in the tables, column by column.

    Multiplying all rows by one rotation leaves every score unchanged.
    """

    separable = True

    @torch.no_grad()
    def order_dimensions(self) -> None:
        """Rotate both tables, so that cutting rows short loses least."""
        rotation = importance_rotation(self.vectors().users)
        for table in (self.user_table, self.item_table):
            table.copy_(table @ rotation)


class TwoTables(Rotatable):
    """Inner products of the tables' rows themselves."""

    rows_stand_alone = True


@dataclass(frozen=True)
class Training(Checked):
    """How a backbone is trained: BPR with Adam, unless it has a `Solver`.

    Attributes:
        steps: the most steps, or calls of the solver; 0 where nothing is to be trained. A full model that still gains
            goes on, see `ciess.train.fit.while_gaining`.
        batch_size: triplets a step; None takes 50,000, or five for each row of both tables where these are more: so a
            step sees every row.
        lr: learning rate at the start.
        lr_decay: what it is multiplied by every `lr_every` steps.
        lr_every: steps between two decays.
        lr_floor: the least learning rate.
        l2: weight of the squared norms of a triplet's rows.
        network_l2: weight of the squared norms of what is learned beside the tables. Without it, a network can grow to
            make up for rows that l2 keeps small.
        eval_every: steps between two measurements on validation.
        patience: measurements without a better one after which training stops.
        nested: in every other step, cut each row to a random size: the first numbers of a row learn to do without
            the others (Kusupati et al., NeurIPS 2022; Rippel et al., ICML 2014).

    Raises:
        InputError: a setting outside of its bounds.
    """

    steps: Count = 750
    batch_size: Positive | None = None
    lr: NotNegative = 0.03
    lr_decay: Share = 0.9
    lr_every: Positive = 50
    lr_floor: NotNegative = 1e-3
    l2: NotNegative = 1e-3
    network_l2: NotNegative = 0.0
    eval_every: Positive = 50
    patience: Positive = 3
    nested: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        return max(self.lr_floor, self.lr * self.lr_decay ** ((step - 1) // self.lr_every))

    def triplets(self, rows: int) -> int:
        """Triplets a step, for tables of so many rows together."""
        return self.batch_size or max(_TRIPLETS, _TRIPLETS_A_ROW * rows)

    def lasting(self, steps: int) -> "Training":
        """The same recipe for another number of steps."""
        return dataclasses.replace(self, steps=steps)

    def stretched(self, by: float) -> "Training":
        """The same recipe over `by` times the steps, for steps that each draw `by` times fewer rows.

        Adam's rate then falls by the root (Malladi et al., On the SDEs and Scaling Rules for Adaptive Gradient
        Algorithms, NeurIPS 2022).
        """
        steps, lr_every, eval_every = (round(by * each) for each in (self.steps, self.lr_every, self.eval_every))
        longer = dataclasses.replace(self, steps=steps, lr_every=lr_every, eval_every=eval_every)
        return longer.paced(by**-0.5)

    def shortened(self, steps: int) -> "Training":
        """The same recipe in so many steps at most: the rate falls about as far, with up to three measurements."""
        steps = min(steps, self.steps)
        lr_every = max(1, self.lr_every * steps // self.steps) if steps else self.lr_every
        return dataclasses.replace(self, steps=steps, lr_every=lr_every, eval_every=max(1, -(-steps // 3)))

    def paced(self, by: float) -> "Training":
        """The same recipe at `by` times the learning rate."""
        return dataclasses.replace(self, lr=by * self.lr, lr_floor=by * self.lr_floor)

    def resumed(self, steps: int) -> "Training":
        """What a model that was trained for `steps` takes to learn what is added: half the steps and the rate."""
        return dataclasses.replace(self, steps=-(-steps // 2), lr=self.lr / 2)


LEARNING_ALONE = Training(steps=240, batch_size=1_000_000, lr=0.3, lr_every=10, eval_every=60, patience=2)
"""How rows that stand alone learn from a full model: nothing else brings them closer, so it takes longer. Tables
trained elsewhere take half the steps, so that `compress` takes about a minute."""


DESCENT = frozenset({"batch_size", "lr", "lr_decay", "lr_every", "lr_floor", "l2", "network_l2", "nested"})
"""Settings of `Training` that only gradient descent uses, and no solver."""


@dataclass(frozen=True)
class BackboneConfig(Checked, ABC):
    """Settings of a backbone; the class is its key.

    Attributes:
        dim: numbers of a full row (d_max).
        training: how it is trained.

    Raises:
        InputError: a setting outside of its bounds, or one of its training that it does not use.
    """

    unused: ClassVar[frozenset[str]] = frozenset()
    """Settings, its own and of its training, that do nothing for it."""
    distillation: ClassVar[Training] = Training(
        steps=120, batch_size=2_000_000, lr=0.3, lr_every=5, eval_every=30, patience=2
    )
    """How its small models learn from the full one. The batch size counts scores, the learning rate counts root mean
    squares of the full model's parameters."""

    tuned: ClassVar[Mapping[str, float]] = {"l2": 4.0, "lr": 3.0}
    """Settings, of the backbone or of its training, that decide the full model's quality, and the factor by which a
    search for better ones steps at first."""

    dim: Dim = 128
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        super().__post_init__()
        [given] = [each for each in dataclasses.fields(self) if each.name == "training"]
        usual = given.default if given.default_factory is dataclasses.MISSING else given.default_factory()
        for name in sorted(self.unused & {each.name for each in dataclasses.fields(Training)}):
            if getattr(self.training, name) != getattr(usual, name):
                raise InputError(f"{name} does nothing with {type(self).__name__}: leave it out of its training")

    def setting(self, name: str) -> float:
        """A number among the settings, of the backbone or of its training."""
        return float(getattr(self if hasattr(self, name) else self.training, name))

    def changed(self, **settings: Any) -> Self:
        """With other settings, each the backbone's own or its training's."""
        own = {name: value for name, value in settings.items() if hasattr(self, name)}
        others = {name: value for name, value in settings.items() if name not in own}
        return dataclasses.replace(self, **own, training=dataclasses.replace(self.training, **others))

    def short(self, dim: int) -> Self:
        """A narrower model with a part of the training, to try settings on.

        Its rate is higher by as much as it is narrower, so that a step of Adam moves scores as far (Yang et al., Tensor
        Programs V, NeurIPS 2021), and by as much as its steps are fewer, so that all of them together move a row as
        far. Then what is best for the one is close to best for the other (docs/search.md).
        """
        narrow, fewer = min(self.dim, dim), self.training.shortened(_TRIED_STEPS)
        training = fewer.paced(self.dim / narrow * self.training.steps / max(1, fewer.steps))
        return dataclasses.replace(self, dim=narrow, training=training)

    def on_more(self, data: Interactions, before: Interactions) -> Self:
        """The settings with which a model learns more interactions than those that its settings were found for.

        A prior counts once, however much is seen. Since l2 and network_l2 weigh a mean over triplets, they fall as
        interactions grow. A solver has its own way.
        """
        share = len(before) / max(1, len(data))
        return self.changed(**{n: share * self.setting(n) for n in ("l2", "network_l2") if n not in self.unused})

    @property
    def learns(self) -> bool:
        """Whether its rows are trained on interactions; if not, a row says something of a user without any, too."""
        return True

    @property
    def network_parameters(self) -> int:
        """How many parameters its network has at least, so that nothing larger is built than a saved model holds."""
        return 0

    @abstractmethod
    def build(self, train: Interactions, seed: int = 0) -> Backbone:
        """A new backbone with random tables; graph backbones take `train` as their graph."""

    def skeleton(self, train: Interactions) -> Backbone:
        """A backbone that scores with tables given to it, as saved models do; its own are not used."""
        with seeded(0):
            return self.build(train)


def normal_table(rows: int, dim: int, generator: torch.Generator) -> nn.Parameter:
    """(rows, dim) numbers drawn from a normal distribution about 0, whose standard deviation is USUAL_SCALE."""
    return nn.Parameter(torch.randn(rows, dim, generator=generator) * USUAL_SCALE)


def xavier(fan_out: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """(fan_out, fan_in) weights of a linear layer, uniform (Glorot and Bengio, AISTATS 2010)."""
    bound = (6 / (fan_in + fan_out)) ** 0.5
    return torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=generator)


def inner_products(vectors: Represented, users: Tensor, items: Tensor) -> Tensor:
    """(b, m) inner products of users, (b,) rows in rising order, with their own items, (b, m) rows."""
    if items.numel() > len(vectors.users) * len(vectors.items):
        # More pairs than there are different ones: the sparse kernel refuses, and all of them cost less.
        return (vectors.users @ vectors.items.T)[users[:, None], items]
    scores: Tensor = _PairScores.apply(vectors.users, vectors.items, users, items)  # type: ignore[no-untyped-call]
    return scores


class _PairScores(torch.autograd.Function):
    """Inner products of few pairs out of all, without gathering a row for each pair.

    The pairs are a sparse users × items matrix: scores are a product sampled on its pattern, and the
    gradients two products of it with the dense vectors, some ten times faster than gathering and scattering.
    """

    @staticmethod
    def forward(ctx, users, items, user_rows, item_rows):  # type: ignore[no-untyped-def]
        pairs_each = item_rows.shape[1]
        offsets = _offsets(user_rows, len(users)) * pairs_each
        columns = item_rows.reshape(-1).int()
        pattern = _csr(offsets, columns, columns.new_zeros(len(columns), dtype=users.dtype), users, items)
        scores = torch.sparse.sampled_addmm(pattern, users, items.T, beta=0.0).values()
        ctx.save_for_backward(users, items, user_rows, offsets, columns)
        return scores.view(-1, pairs_each)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        users, items, user_rows, offsets, columns = ctx.saved_tensors
        weights = gradient.reshape(-1)
        by_item = columns.argsort(stable=True)
        rows = user_rows.int()[by_item // gradient.shape[1]]
        transposed = _csr(_offsets(columns, len(items)), rows, weights[by_item], items, users)
        return _csr(offsets, columns, weights, users, items) @ items, transposed @ users, None, None


def _offsets(rows: Tensor, n: int) -> Tensor:
    """(n + 1,) int32 CSR offsets of sorted or unsorted row numbers."""
    offsets = torch.zeros(n + 1, dtype=torch.int32)
    offsets[1:] = torch.bincount(rows, minlength=n).cumsum(0)
    return offsets


def _csr(offsets: Tensor, columns: Tensor, values: Tensor, rows_of: Tensor, columns_of: Tensor) -> Tensor:
    size = (len(rows_of), len(columns_of))
    return torch.sparse_csr_tensor(offsets, columns, values, size=size, check_invariants=False)
