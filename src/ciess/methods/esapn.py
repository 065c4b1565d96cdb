"""ESAPN: sizes grow while a model learns from a stream; a policy says whose.

Liu et al., Automated Embedding Size Search in Deep Recommender Systems, SIGIR 2020.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot, pad

from ciess.checks import Checked, NotNegative, Positive, Seed
from ciess.data import Interactions
from ciess.data.sampling import Triplets, TripletSampler
from ciess.errors import InputError
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.joint import Learner, Start
from ciess.models.seeded import seeded
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan
from ciess.train.adam import Adam
from ciess.train.losses import bpr_loss, triplet_losses

_POPULARITIES = 48
"""How many popularities the policy tells apart: two to a doubling."""
_NEW_NUMBERS = 0.1
"""How long the numbers are that an unlearned map adds to a row, in times its length."""
_LEAST_GRADIENT = 1e-3
"""Adam's ε for the policies: much smaller gradients hardly change them, as those while nothing is learned yet."""


@dataclass(frozen=True)
class ESAPN(Checked):
    """ESAPN (Liu et al., Sec. 2) for users and items, each side with a policy of its own.

    All rows start with the smallest size. Batches of interactions come in order of time, or shuffled where there are no
    times; the model has learned none of them before, so each is validation first. On it rows grow as the policies draw,
    for trial, and a policy is rewarded with what an entity's loss is below the mean of its latest ones (REINFORCE,
    Sec. 2.3). Then the policies decide whether the batch's users and items keep their sizes or grow by a step, from how
    often they came so far and the sizes they have; a row that grows starts from a learned linear map of what it was
    (Sec. 2.2); and the model learns the batch. Sizes never shrink.

    It cannot be told a budget: `search` measures the sizes that it ends with (`published` in the trace), and scales
    them onto each budget. Adapted: BPR is the loss, its negatives are drawn. Departures:

    - Rows are prefixes. The published program maps every row through all later maps to the largest size; so growing
      changes no prediction at the time, and the reward does not depend on the action. Here it adds numbers that count.
    - Maps learn from the growths on trial as well as from those that last.
    - Rewards are centred within a batch: all losses fall while the model learns.
    - Where policies start decides much. The published program's, a chance of one half, lets rows grow to the last size
      before anything is learned. With a small one little grows, and where growth helps only together with the other
      side's, as in NCF, users hardly do. Both are run; candidates for a budget are the plans of both.
    - All users and items of a batch decide once a batch, not once an interaction; popularities are told apart by halves
      of a doubling; batches are larger, fewer, and the policy's rate higher accordingly.
    - The full size comes last whatever it is, and sizes above it are left out.

    Attributes:
        sizes: those to choose from, the smallest first.
        batches: that the stream is cut into; the program's hold 500 interactions.
        memory: latest losses of an entity that its reward is measured by.
        first_chances: of growing, before a policy has learned; the stream is run once for each.
        policy_lr: Adam's learning rate for the policies.
        map_rate: how fast maps learn, in times the tables' rate.
        start: where tables start; `new` as in the paper.
        seed: of everything random.

    Raises:
        InputError: a setting outside of its bounds, sizes that do not rise, or a first chance not between 0 and 1.
    """

    name: ClassVar[str] = "esapn"

    sizes: tuple[Positive, ...] = (2, 4, 8, 16, 64, 128)
    batches: Positive = 400
    memory: Positive = 5
    first_chances: tuple[float, ...] = (0.1, 0.5)
    policy_lr: NotNegative = 3e-3
    map_rate: NotNegative = 0.3
    start: Start = "new"
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(larger <= size for size, larger in pairwise(self.sizes)):
            raise InputError(f"sizes are {self.sizes}: give the smallest first, each once")
        if not all(0 < chance < 1 for chance in self.first_chances):
            raise InputError(f"first_chances are {self.first_chances}: give chances between 0 and 1")

    def search(self, problem: Problem) -> SearchResult:
        """Let a model learn the stream for each first chance; scale the sizes that it ends with onto every budget."""
        result = SearchResult(best={})
        ends = [_Stream(self, chance, problem, result.trace).run() for chance in self.first_chances]
        result.measure_scaled(problem, *(SizePlan.from_sizes(sizes, problem.shape) for sizes in ends))
        return result


class Policy:
    """Whether an entity keeps its size or grows: a network that sees how often it came, and its size.

    Args:
        levels: how many sizes there are; who has the last cannot grow.
        first_chance: of growing, before anything is learned.
        lr: Adam's learning rate.
        seed: of weights and draws.
    """

    def __init__(self, levels: int, first_chance: float, lr: float, seed: int) -> None:
        with seeded(seed):
            self._popularity = nn.Embedding(_POPULARITIES, 32)
            last = nn.Linear(512, 1)
            self._network = nn.Sequential(nn.Linear(32 + levels, 512), nn.Tanh(), last)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, log(first_chance / (1 - first_chance)))
        self._levels = levels
        learned = nn.ModuleList([self._popularity, self._network])
        self._adam, self._lr = Adam(learned.parameters(), _LEAST_GRADIENT), lr
        self._generator = torch.Generator().manual_seed(seed)

    def _preference(self, counts: Tensor, levels: Tensor) -> Tensor:
        """(n,) log-odds of growing, of entities that came so often and have sizes of these levels."""
        # There are far fewer states than entities.
        popularity = (2 * torch.log2(1 + counts.double())).long().clamp(max=_POPULARITIES - 1)
        states, which = (popularity * self._levels + levels).unique(return_inverse=True)
        seen = self._popularity(states // self._levels), one_hot(states % self._levels, self._levels)
        preference: Tensor = self._network(torch.cat(seen, dim=1)).squeeze(1)[which]
        return preference

    @torch.no_grad()
    def best(self, counts: Tensor, levels: Tensor) -> Tensor:
        """(n,) whether to grow."""
        return (self._preference(counts, levels) > 0) & (levels < self._levels - 1)

    @torch.no_grad()
    def drawn(self, counts: Tensor, levels: Tensor) -> Tensor:
        """(n,) whether to grow, drawn from the policy."""
        chance = self._preference(counts, levels).sigmoid()
        return (torch.rand(len(chance), generator=self._generator) < chance) & (levels < self._levels - 1)

    def learn(self, counts: Tensor, levels: Tensor, grown: Tensor, advantage: Tensor) -> None:
        """A step of REINFORCE (Williams, 1992): what was better than expected becomes likelier.

        Args:
            counts: (n,) how often entities came.
            levels: (n,) of their sizes; those of the last have nothing to decide.
            grown: (n,) whether they grew.
            advantage: (n,) reward beyond what was expected.
        """
        free = levels < self._levels - 1
        if not free.any():
            return
        preference = self._preference(counts[free], levels[free])
        chosen = logsigmoid(torch.where(grown[free], preference, -preference))
        self._adam.zero_grad()
        (-(chosen * advantage[free]).mean()).backward()
        self._adam.step(self._lr)


class Side:
    """Users or items: their table, their levels, the maps between sizes, what came so far, and the policy.

    Args:
        table: (n, dim) as it learns; here rows are also mapped to their next size.
        sizes: of the levels, the smallest first.
        settings: of the search.
        first_chance: see `Policy`.
        seed: of the policy and of new maps.

    Attributes:
        levels: (n,) places of the rows' sizes among `sizes`.
        counts: (n,) how often entities came.
        maps: (larger, smaller) weights from each size to the next; they learn with the table.
    """

    def __init__(self, table: nn.Parameter, sizes: list[int], settings: ESAPN, first_chance: float, seed: int) -> None:
        self.table, self._sizes = table, torch.tensor(sizes)
        self.levels = torch.zeros(len(table), dtype=torch.long)
        self.counts = torch.zeros(len(table), dtype=torch.long)
        self.policy = Policy(len(sizes), first_chance, settings.policy_lr, seed)
        # NaN where there was none yet.
        self._losses = torch.full((len(table), settings.memory), torch.nan)
        generator = torch.Generator().manual_seed(seed)
        self.maps = [nn.Parameter(_first_map(*each, generator)) for each in pairwise(sizes)]

    @property
    def sizes(self) -> Tensor:
        """(n,) of the rows."""
        return self._sizes[self.levels]

    def grown(self, table: Tensor, grow: Tensor) -> Tensor:
        """(n, dim) the table cut to its sizes, and the rows that grow, (n,), mapped to the next."""
        dim = table.shape[1]
        cut = table * prefix_mask(self.sizes, dim)
        for level, to_next in enumerate(self.maps):
            rows = (grow & (self.levels == level)).nonzero().squeeze(1)
            if len(rows):
                new = table[rows, : to_next.shape[1]] @ to_next.T
                cut = cut.index_copy(0, rows, pad(new, (0, dim - new.shape[1])))
        return cut

    @torch.no_grad()
    def keep(self, grow: Tensor) -> None:
        """Let growth, (n,), last."""
        self.table.copy_(torch.where(grow[:, None], self.grown(self.table, grow), self.table))
        self.levels += grow

    def deciding(self, rows: Tensor, grow: Tensor) -> Tensor:
        """(n,) over all entities: what those of `rows` decided."""
        everyone = torch.zeros(len(self.levels), dtype=torch.bool)
        everyone[rows] = grow
        return everyone

    def advantage(self, rows: Tensor, losses: Tensor) -> Tensor:
        """(n,) by how much each entity's loss is below the mean of its latest ones, centred; 0 where it had none."""
        reward = self._losses[rows].nanmean(1) - losses
        return (reward - reward.nanmean()).nan_to_num(0.0)

    def remember(self, rows: Tensor, losses: Tensor, counts: Tensor) -> None:
        """Note what each entity of a batch lost, and how often it came."""
        self._losses[rows] = torch.cat([losses[:, None], self._losses[rows, :-1]], dim=1)
        self.counts[rows] += counts


class _Stream:
    """A model that learns a stream, and policies that let its rows grow."""

    def __init__(
        self, settings: ESAPN, first_chance: float, problem: Problem, trace: list[dict[str, float | str]]
    ) -> None:
        self._settings, self._first_chance, self._problem, self._trace = settings, first_chance, problem, trace
        self._batches = min(settings.batches, len(problem.train))
        self._learner = Learner(problem, settings.start, settings.seed, self._batches)
        dim = problem.shape.dim
        sizes = [*(size for size in settings.sizes if size < dim), dim]
        self._sides = [
            Side(table, sizes, settings, first_chance, 2 * settings.seed + side)
            for side, table in enumerate(self._learner.tables)
        ]
        for side in self._sides:
            self._learner.join(side.maps, settings.map_rate)

    def run(self) -> NDArray[np.int64]:
        """(n_users + n_items,) sizes at the end of the stream."""
        train = self._problem.train
        sampler = TripletSampler(train, seed=self._settings.seed)
        for step, batch in enumerate(sampler.stream(_order(train, self._settings.seed), self._batches), 1):
            came = [batch.users, batch.positives]
            self._learn(step, batch, came, self._try(batch, came))
        return torch.cat([side.sizes for side in self._sides]).numpy()

    def _try(self, batch: Triplets, came: list[Tensor]) -> Tensor:
        """Grow rows of a batch as the policies draw, for trial; let the policies learn, and return the mean loss.

        Args:
            batch: not learned yet.
            came: its users and its items.
        """
        entities = [each.unique() for each in came]
        states = [(side.counts[rows], side.levels[rows]) for side, rows in zip(self._sides, entities, strict=True)]
        grown = [side.policy.drawn(*state) for side, state in zip(self._sides, states, strict=True)]
        tables = [
            side.grown(side.table.detach(), side.deciding(rows, grow))
            for side, rows, grow in zip(self._sides, entities, grown, strict=True)
        ]
        losses = triplet_losses(self._learner.backbone, self._learner.backbone.represent(*tables), batch)
        for side, rows, state, grow, each in zip(self._sides, entities, states, grown, came, strict=True):
            lost, _ = _means(each, losses.detach(), rows)
            side.policy.learn(*state, grow, side.advantage(rows, lost))
        return losses.mean()

    def _learn(self, step: int, batch: Triplets, came: list[Tensor], on_trial: Tensor) -> None:
        """Let the rows of a batch grow as the policies think best, and learn it."""
        entities = [each.unique() for each in came]
        growing = [
            side.deciding(rows, side.policy.best(side.counts[rows], side.levels[rows]))
            for side, rows in zip(self._sides, entities, strict=True)
        ]
        backbone, l2 = self._learner.backbone, self._learner.training.l2
        users, items = (side.grown(side.table, grow) for side, grow in zip(self._sides, growing, strict=True))
        vectors = backbone.represent(users, items)
        loss = bpr_loss(backbone, vectors, users, items, batch, l2)
        with torch.no_grad():
            losses = triplet_losses(backbone, vectors, batch)
        self._learner.learn(step, loss + on_trial)
        for side, grow, rows, each in zip(self._sides, growing, entities, came, strict=True):
            side.keep(grow)
            side.remember(rows, *_means(each, losses, rows))
        user_size, item_size = (float(side.sizes.double().mean()) for side in self._sides)
        self._trace.append(
            {
                "kind": "batch",
                "first_chance": self._first_chance,
                "loss": float(losses.mean()),
                "user_size": user_size,
                "item_size": item_size,
            }
        )
        note = f"from chance {self._first_chance:g}, mean sizes {user_size:.1f} and {item_size:.1f}"
        self._problem.progress("esapn", step, self._batches, note)


def _order(train: Interactions, seed: int) -> NDArray[np.int64]:
    """(n,) interactions in order of time, or shuffled where there are no times."""
    if train.times is None:
        return np.random.default_rng(seed).permutation(len(train))
    return np.argsort(train.times, kind="stable")


def _means(came: Tensor, losses: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the rows that came: the mean of its losses, and how often it came."""
    counts = torch.bincount(came)
    return (torch.bincount(came, losses)[rows] / counts[rows]).float(), counts[rows]


def _first_map(size: int, larger: int, generator: torch.Generator) -> Tensor:
    """(larger, size) weights that keep a row's numbers and add short random ones."""
    new = torch.randn(larger - size, size, generator=generator) * _NEW_NUMBERS / (larger - size) ** 0.5
    return torch.cat([torch.eye(size), new])
