"""CIESS: a TD3 policy that gives every user and every item a size.

Qu et al., Continuous Input Embedding Size Search For Recommender Systems, SIGIR 2023 (arXiv 2304.03501).
"""

import heapq
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.methods.equal import EqualSizes
from ciess.methods.problem import Candidate, Measurement, Problem, SearchResult
from ciess.methods.td3 import TD3, Replay, TD3Settings, Transitions
from ciess.methods.walk import RandomWalk
from ciess.tables.budget import Budget

_STATE_SIZE = 4


@dataclass(frozen=True)
class Ciess:
    """CIESS with budgets that hold. One search serves all budgets: episodes take turns over them.

    An episode starts from full sizes. At each step the actor, noise, a random walk and the critic choose a size
    for every user and item; the sizes are scaled onto the episode's budget and measured; each entity's
    transition is stored; actor and critics learn. It departs from the paper where that measured better:

    - Sizes are actions on a logarithmic scale: at tight budgets the paper's linear scale leaves all sizes in a
      corner of the action's range.
    - Rewards count what an entity adds to the users' summed quality: a user the quality it lost against the full
      model, an item the part of users' quality that its own hits earned. The paper rewards an item with its
      users' mean quality, which hardly depends on the item's own size. Both sides are in one unit, so that one
      price per number, which tunes itself to the budget, settles the share between them.
    - Quality and size in the state are means over entities of like popularity. One user's validation quality is
      mostly chance: a policy that sees it fits that chance, gaining on validation what it loses on test.
    - The budget is part of the state.

    Attributes:
        episodes: episodes in all (M).
        steps: steps of an episode (T).
        updates: TD3 updates of each side at every step.
        seed: of everything random.
        price: what a row of full size costs, in mean qualities of a user (λ); None tunes it for each budget.
        price_rate: how fast the price follows when the actor would spend more or less than the budget.
        noise: standard deviation of the noise on actions, whose range is 2.
        walk_length: steps of the random walk; 0 leaves it out.
        walk_threshold: the largest difference of neighbouring sizes on the walk (t).
        peers: groups of like popularity whose entities share the quality and size they see; 0 for none.
        finalists: candidates returned for each budget, beside equal sizes.
        td3: settings of TD3.
    """

    episodes: int = 24
    steps: int = 10
    updates: int = 4
    seed: int = 0
    price: float | None = None
    price_rate: float = 0.1
    noise: float = 0.2
    walk_length: int = 5
    walk_threshold: int = 5
    peers: int = 32
    finalists: int = 3
    td3: TD3Settings = field(default_factory=lambda: TD3Settings(discount=0.9, batch_size=2048))

    def search(self, problem: Problem) -> SearchResult:
        """Find plans for every budget of the problem. Equal sizes are always among the candidates."""
        search = _Search(self, problem)
        for episode in range(self.episodes):
            search.run_episode(episode)
        return search.result()


class _Side:
    """Users or items: their agent, their replay and what they see."""

    def __init__(self, popularity: NDArray[np.int64], settings: Ciess, seed: int) -> None:
        self.popularity = _scaled(np.log1p(popularity))
        self.agent = TD3(_STATE_SIZE, settings.td3, seed)
        self.replay = Replay(100 * len(popularity), _STATE_SIZE)
        self._groups = _groups_of_like(popularity, settings.peers) if settings.peers else None

    def shared(self, values: Tensor) -> Tensor:
        """(n,) each value replaced by the mean over the entity's peers."""
        if self._groups is None:
            return values
        return (torch.bincount(self._groups, values.double()) / torch.bincount(self._groups))[self._groups].float()

    def states(self, sizes: Tensor, quality: Tensor, budget: float) -> Tensor:
        """(n, 4) popularity, size, quality ratio and budget, each scaled to [−1, 1] or close."""
        return torch.stack([self.popularity, sizes, quality, torch.full_like(sizes, budget)], dim=1)


class _Search:
    """The state of one search."""

    def __init__(self, settings: Ciess, problem: Problem) -> None:
        self.settings, self.problem = settings, problem
        self.dim = problem.shape.dim
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.sides = [
            _Side(popularity, settings, 2 * settings.seed + side) for side, popularity in enumerate(problem.popularity)
        ]
        self.walk = RandomWalk(self.dim, settings.walk_threshold, settings.walk_length)
        self.price = dict.fromkeys(problem.budgets, 1.0 if settings.price is None else settings.price)
        self.peak_items = problem.item_quality(problem.full.user_quality)
        self.found: dict[Budget, list[Candidate]] = {budget: [] for budget in problem.budgets}
        self.trace: list[dict[str, float | str]] = []

    def run_episode(self, episode: int) -> None:
        """One episode on one budget, from full sizes; its last act is the actor's own plan, without noise."""
        budget = self.problem.budgets[episode % len(self.problem.budgets)]
        states = self._states([torch.ones(n) for n in self._lengths], [torch.zeros(n) for n in self._lengths], budget)
        for step in range(self.settings.steps):
            measured = self._measure(self._explore(states), budget, episode, "explore")
            following = self._observe(measured, budget)
            self._learn(states, measured, following, budget)
            states = following
            self.problem.progress(
                "search",
                episode * self.settings.steps + step + 1,
                self.settings.episodes * self.settings.steps,
                f"{budget} best {self.found[budget][0].quality:.4f}",
            )
        self._measure([self._to_sizes(side.agent.act(s)) for side, s in self._each(states)], budget, episode, "act")

    def result(self) -> SearchResult:
        """The finalists of each budget and equal sizes, the best first."""
        equal = EqualSizes().search(self.problem)
        best = {
            budget: sorted(found + equal.best[budget], key=lambda candidate: -candidate.quality)
            for budget, found in self.found.items()
        }
        return SearchResult(best, self.trace)

    @property
    def _lengths(self) -> tuple[int, int]:
        return self.problem.shape.n_users, self.problem.shape.n_items

    def _each(self, states: list[Tensor]) -> list[tuple[_Side, Tensor]]:
        return list(zip(self.sides, states, strict=True))

    def _states(self, sizes: list[Tensor], quality: list[Tensor], budget: Budget) -> list[Tensor]:
        # A budget is seen as the mean size it allows, on the scale of sizes.
        mean_size = torch.tensor(self.problem.numbers[budget] / self.problem.shape.rows)
        seen = float(self._to_actions(mean_size))
        return [side.states(s, q, seen) for side, s, q in zip(self.sides, sizes, quality, strict=True)]

    def _explore(self, states: list[Tensor]) -> list[Tensor]:
        """Desired sizes: the actor's, noised, then the critic's choice among those a walk visits (Sec. 3.3)."""
        desired = []
        for side, state in self._each(states):
            action = side.agent.act(state)
            noise = torch.randn(len(action), generator=self.generator) * self.settings.noise
            size = self._to_sizes((action + noise).clamp(-1, 1))
            if self.settings.walk_length and len(side.replay):
                visited = self.walk.visit(size.round(), self.generator)
                repeated = state.repeat_interleave(visited.shape[1], dim=0)
                value = side.agent.value(repeated, self._to_actions(visited.reshape(-1)))
                choice = value.view_as(visited).argmax(1, keepdim=True)
                size = visited.gather(1, choice).squeeze(1).float()
            desired.append(size)
        return desired

    def _measure(self, desired: list[Tensor], budget: Budget, episode: int, kind: str) -> Measurement:
        """Scale desired sizes onto the budget, measure, and remember the plan if it is among the best."""
        measured = self.problem.measure(self.problem.project(torch.cat(desired), budget))
        best = [*self.found[budget], Candidate(measured.plan, measured.quality)]
        self.found[budget] = heapq.nlargest(self.settings.finalists, best, key=lambda candidate: candidate.quality)
        self.trace.append(
            {
                "episode": episode,
                "kind": kind,
                "budget": str(budget),
                "quality": measured.quality,
                "price": self.price[budget],
                "user_size": float(measured.plan.user_sizes.mean()),
                "item_size": float(measured.plan.item_sizes.mean()),
            }
        )
        return measured

    def _observe(self, measured: Measurement, budget: Budget) -> list[Tensor]:
        """The states after a measurement."""
        peaks = (self.problem.full.user_quality, self.peak_items)
        now = (measured.user_quality, self.problem.item_quality(measured.user_quality))
        ratios = [2 * (q / peak.clamp(min=1e-5)).clamp(max=1) - 1 for q, peak in zip(now, peaks, strict=True)]
        sizes = [self._to_actions(size) for size in _tensors(measured)]
        sizes, ratios = ([side.shared(v) for side, v in zip(self.sides, vs, strict=True)] for vs in (sizes, ratios))
        return self._states(sizes, ratios, budget)

    def _learn(self, states: list[Tensor], measured: Measurement, following: list[Tensor], budget: Budget) -> None:
        """Store every entity's transition, update both agents, move the price."""
        full = self.problem.full
        gains = (measured.user_quality - full.user_quality, measured.item_credit - full.item_credit)
        keep = (self.problem.measured_users, torch.ones(self.problem.shape.n_items, dtype=torch.bool))
        spent = 0.0
        for side, state, then, gain, size, kept in zip(
            self.sides, states, following, gains, _tensors(measured), keep, strict=True
        ):
            reward = gain / full.quality - self.price[budget] * size / self.dim
            spent += float(self._to_sizes(side.agent.act(state)).sum())
            side.replay.add(Transitions(state[kept], self._to_actions(size)[kept], reward[kept], then[kept]))
            for _ in range(self.settings.updates):
                side.agent.update(side.replay)
        if self.settings.price is None:
            over = math.log(spent / self.problem.numbers[budget])
            self.price[budget] *= math.exp(self.settings.price_rate * min(1.0, max(-1.0, over)))

    def _to_sizes(self, actions: Tensor) -> Tensor:
        """Actions in [−1, 1] to sizes in [1, dim], evenly on a logarithmic scale."""
        return self.dim ** ((actions + 1) / 2)

    def _to_actions(self, sizes: Tensor) -> Tensor:
        return 2 * sizes.float().log() / math.log(self.dim) - 1


def _tensors(measured: Measurement) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(measured.plan.user_sizes), torch.from_numpy(measured.plan.item_sizes)


def _scaled(values: NDArray[np.float64]) -> Tensor:
    """Min-max scaled to [−1, 1]; all 0 where all are the same."""
    low, high = values.min(), values.max()
    scaled = 2 * (values - low) / (high - low) - 1 if high > low else np.zeros_like(values)
    return torch.from_numpy(scaled).float()


def _groups_of_like(popularity: NDArray[np.int64], groups: int) -> Tensor:
    """(n,) group of each entity: quantiles of popularity, so that the same popularity means the same group."""
    edges = np.unique(np.quantile(popularity, np.linspace(0, 1, groups + 1)[1:-1]))
    return torch.from_numpy(np.unique(np.searchsorted(edges, popularity, side="right"), return_inverse=True)[1])
