"""CIESS under budgets of bytes: where this package departs from the paper (`paper.py`), each departure by itself."""

import dataclasses
import heapq
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.checks import Checked, Count, NotNegative, Positive, Seed
from ciess.methods import method_name
from ciess.methods.ciess import paper
from ciess.methods.ciess.noise import Noise, NoiseSource
from ciess.methods.ciess.paper import CiessPaper, Side, best_visited, evaluated, quality_ratio
from ciess.methods.ciess.td3 import TD3, TD3Settings
from ciess.methods.ciess.walk import RandomWalk
from ciess.methods.equal import EqualSizes
from ciess.methods.fidelity import FineTune, Scratch, Truncate
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Measurement, Problem, SearchResult, seed_for
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

_NOISE_UNIT = 2 / 127
"""What one size of TD3's noise is in actions, whatever the dim: here sizes are no equal steps of actions."""
_STRAYING = 0.15
"""Standard deviation of the log-odds of the users' share around the best plan's."""


@dataclass(frozen=True)
class Ciess(Checked):
    """CIESS with budgets that hold. Each budget has a search of its own: what is found depends on no other budget.

    The loop is the paper's: the actor, noise, a random walk and the critic choose a size for every user and item, the
    plan is measured, each entity's transition is stored, and TD3 learns. Departures, where they measured better:

    - Warm start: actors first learn to act as the popularity rule that was best (`start`).
    - Filled budgets: sizes are scaled onto the budget before they are measured.
    - Share between the sides: the users' part of the budget is the best plan's, and strays a little at every step. No
      entity's reward tells what moving memory between the sides is worth.
    - Fidelity: plans are measured by cutting the full model, or with graphs by a few steps of distillation.
    - Logarithmic actions: at tight budgets the paper's linear ones leave all sizes at one end of their range.
    - Credit: an entity is rewarded with what it adds to the users' summed quality: a user with the quality it gains on
      the full model, an item with the part of quality that its own hits gain. The paper rewards an item with its users'
      mean quality, which hardly depends on the item's own size.
    - Prices: λ tunes itself for each side, and a size costs in proportion, not by its square.
    - Peers: the state has means over entities of like popularity. One user's validation quality is mostly chance: a
      policy that sees it gains on validation what it loses on test.

    Attributes:
        episodes: of each budget (M).
        steps: of an episode (T).
        updates: TD3 updates of each side at every step.
        seed: of everything random.
        fidelity: how plans are measured; None for what suits the backbone, see `suiting`.
        start: the rule to start from; None starts from nothing, and the budget is shared as sizes wish.
        log_sizes: sizes are actions on a logarithmic scale; else on the paper's linear one.
        reward: `credit` as above; `ratio`, the paper's share of the full model's quality; `raw`, the quality.
        price: what an entity of full size costs (λ); None tunes it.
        price_rate: how fast a price follows when the actor would spend more or less than the budget.
        noise: on actions, whose range is 2.
        walk_length: steps of the random walk; 0 leaves it out.
        walk_threshold: the largest difference of neighbouring sizes on the walk (t).
        peers: groups of like popularity whose entities share the quality and size they see; 0 for none.
        finalists: candidates returned for each budget, beside equal sizes and the rule's.
        td3: settings of TD3; its noise is in 127ths of the range of actions.

    Raises:
        InputError: a setting outside of its bounds.
    """

    cheap: ClassVar[bool] = True

    episodes: Count = 2
    steps: Positive = 4
    updates: Count = 4
    seed: Seed = 0
    fidelity: Truncate | FineTune | Scratch | None = None
    start: Popularity | None = field(default_factory=Popularity)
    log_sizes: bool = True
    reward: Literal["credit", "ratio", "raw"] = "credit"
    price: NotNegative | None = None
    price_rate: NotNegative = 0.1
    noise: Noise = field(default_factory=lambda: Noise(scale=0.2))
    walk_length: Count = 5
    walk_threshold: Positive = 5
    peers: Count = 32
    finalists: Positive = 1
    td3: TD3Settings = field(
        default_factory=lambda: TD3Settings(gamma=0.9, max_grad_norm=1.0, batch_size=2048, hidden=64)
    )

    @staticmethod
    def paper(price: float = 0.4, dim: int | None = None) -> CiessPaper:
        """As the paper's text says; λ is 0.4 on ML-1M and 0.2 on Yelp2018, `dim` the largest size if not the full."""
        return CiessPaper(price=price, dim=dim)

    @staticmethod
    def program(price: float = 0.02, dim: int | None = None) -> CiessPaper:
        """As the authors' program does where it differs from the text."""
        return CiessPaper.program(price, dim)

    def search(self, problem: Problem) -> SearchResult:
        """Find plans for every budget. Equal sizes and the rule's plans are among the candidates."""
        equal, rule = EqualSizes().search(problem), SearchResult({budget: [] for budget in problem.budgets})
        if self.start is not None:
            rule = dataclasses.replace(self.start, seed=self.seed).search(problem)
        result = SearchResult(best={}, trace=rule.trace)
        for budget in problem.budgets:
            by_rule = [dataclasses.replace(each, found_by=method_name(Popularity)) for each in rule.best[budget]]
            search = _BudgetSearch(self, problem, budget, by_rule, result.trace)
            for episode in range(self.episodes):
                search.episode(episode)
            # A plan that was found twice is the rule's.
            plans = {each.plan: each for each in [*search.found, *equal.best[budget], *by_rule]}
            result.best[budget] = sorted(plans.values(), key=lambda each: -each.quality)
        return result


def log_to_sizes(actions: Tensor, dim: int) -> Tensor:
    """Actions in [−1, 1] to sizes in [1, dim], each step by the same factor."""
    return dim ** ((actions + 1) / 2)


def log_to_actions(sizes: Tensor, dim: int) -> Tensor:
    """The inverse; a single possible size is −1."""
    return 2 * sizes.float().log() / math.log(max(dim, 2)) - 1


class Peers:
    """Entities of like popularity, who share what they see.

    Args:
        popularity: (n,) interactions.
        groups: at most so many, by quantiles: the same popularity means the same group.
    """

    def __init__(self, popularity: NDArray[np.int64], groups: int) -> None:
        edges = np.unique(np.quantile(popularity, np.linspace(0, 1, groups + 1)[1:-1]))
        _, group_of = np.unique(np.searchsorted(edges, popularity, side="right"), return_inverse=True)
        self._group_of = torch.from_numpy(group_of)

    def mean(self, values: Tensor) -> Tensor:
        """(n,) the mean of the entity's group over its known values; NaN where none is known."""
        known = ~values.isnan()
        total = torch.bincount(self._group_of, values.nan_to_num(0.0).double())
        return (total / torch.bincount(self._group_of, known.double()))[self._group_of].float()


def credit(measured: Measurement, full: Measurement) -> list[Tensor]:
    """What users' own quality, and items' part of it, gain on the full model, in its mean quality."""
    gains = (measured.user_quality - full.user_quality, measured.item_credit - full.item_credit)
    return [gain / max(full.quality, torch.finfo(gain.dtype).tiny) for gain in gains]


def tuned_price(price: float, wanted: float, allowed: float, rate: float) -> float:
    """Dual ascent on the budget: the price rises while the actor wants more dimensions than allowed, else it falls."""
    return price * math.exp(rate * min(1.0, max(-1.0, math.log(wanted / allowed))))


class _BudgetSearch:
    """The search for one budget."""

    def __init__(
        self,
        settings: Ciess,
        problem: Problem,
        budget: Budget,
        started: list[Candidate],
        trace: list[dict[str, float | str]],
    ) -> None:
        self.settings, self.problem, self.budget, self.trace = settings, problem, budget, trace
        self.dim, seed = problem.shape.dim, seed_for(budget, settings.seed)
        self.to_sizes, self.to_actions = (
            (log_to_sizes, log_to_actions) if settings.log_sizes else (paper.to_sizes, paper.to_actions)
        )
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.noise = NoiseSource(settings.noise, problem.shape.rows, self.generator)
        self.walk = RandomWalk(self.dim, settings.walk_threshold, settings.walk_length)
        self.sides = [
            Side(
                np.log1p(popularity) if settings.log_sizes else popularity,
                TD3(paper.STATE_SIZE, settings.td3, 2 * seed + side, _NOISE_UNIT),
                settings.episodes * settings.steps,
            )
            for side, popularity in enumerate(problem.popularity)
        ]
        self.peers = [Peers(popularity, settings.peers) for popularity in problem.popularity] if settings.peers else []
        self.peaks = evaluated(problem, problem.full)
        self.prices = [1.0 if settings.price is None else settings.price] * 2
        self.found = list(started)
        if started and settings.episodes:
            self._imitate(started[0].plan)

    def _imitate(self, plan: SizePlan) -> None:
        """Warm start: the actors learn to choose a plan's sizes, at first and after it was measured."""
        seen = zip(self._first_states(), self._states(self.problem.measure(plan)), strict=True)
        for side, states, sizes in zip(self.sides, seen, _sides(plan), strict=True):
            side.agent.imitate(torch.cat(states), self.to_actions(sizes, self.dim).repeat(2))

    def episode(self, episode: int) -> None:
        """One episode, from full sizes; its last act is the actor's own plan, without noise."""
        states = self._first_states()
        self.noise.reset()
        for step in range(self.settings.steps):
            measured = self._measure(self._explore(states), episode, "explore")
            following = self._states(measured)
            self._learn(states, measured, following)
            states = following
            before = self.problem.budgets.index(self.budget) * self.settings.episodes + episode
            total = len(self.problem.budgets) * self.settings.episodes * self.settings.steps
            note = f"{self.budget} best {self.found[0].quality:.4f}"
            self.problem.progress("search", before * self.settings.steps + step + 1, total, note)
        self._measure(self._wanted(states), episode, "act")

    def _first_states(self) -> list[Tensor]:
        """Full sizes, and a quality of which nothing is known."""
        return [
            side.states(torch.ones(len(peak)), peak * torch.nan)
            for side, peak in zip(self.sides, self.peaks, strict=True)
        ]

    def _states(self, measured: Measurement) -> list[Tensor]:
        """What entities see after a measurement: where there are peers, means over these."""
        actions = [self.to_actions(sizes, self.dim) for sizes in _sides(measured.plan)]
        ratios = [quality_ratio(*each) for each in zip(evaluated(self.problem, measured), self.peaks, strict=True)]
        if self.peers:
            actions, ratios = (
                [peers.mean(each) for peers, each in zip(self.peers, both, strict=True)] for both in (actions, ratios)
            )
        return [side.states(*seen) for side, *seen in zip(self.sides, actions, ratios, strict=True)]

    def _wanted(self, states: list[Tensor]) -> list[Tensor]:
        """Sizes that the actors wish for, before they are scaled onto the budget."""
        return [self.to_sizes(side.agent.act(seen), self.dim) for side, seen in zip(self.sides, states, strict=True)]

    def _explore(self, states: list[Tensor]) -> list[Tensor]:
        """The actor's sizes with noise, and the critic's choice among those that a walk from there visits."""
        late, chosen = self.settings.noise.after_choice, []
        noises = self.noise.draw().split([len(each) for each in states])
        for side, seen, noise in zip(self.sides, states, noises, strict=True):
            size = self._moved(self.to_sizes(side.agent.act(seen), self.dim), 0 if late else noise)
            # A critic that has learned nothing has nothing to choose by.
            if self.settings.walk_length and len(side.replay):
                visited = self.walk.visit(size.round(), self.generator)
                size = best_visited(side.agent, seen, visited, self.to_actions(visited, self.dim))
            chosen.append(self._moved(size, noise if late else 0))
        return chosen

    def _moved(self, sizes: Tensor, noise: Tensor | int) -> Tensor:
        return self.to_sizes((self.to_actions(sizes, self.dim) + noise).clamp(-1, 1), self.dim)

    def _measure(self, wanted: list[Tensor], episode: int, kind: str) -> Measurement:
        """Fill the budget, measure, and keep the plan if it is among the best."""
        plan = self._filled(wanted)
        measured = self.problem.measure(plan)
        best = [*self.found, Candidate(plan, measured.quality)]
        self.found = heapq.nlargest(self.settings.finalists, best, key=lambda found: found.quality)
        row: dict[str, float | str] = {"kind": kind, "episode": episode, "budget": str(self.budget)}
        row |= {"quality": measured.quality, "user_price": self.prices[0], "item_price": self.prices[1]}
        row |= {"user_size": float(plan.user_sizes.mean()), "item_size": float(plan.item_sizes.mean())}
        self.trace.append(row)
        return measured

    def _filled(self, wanted: list[Tensor]) -> SizePlan:
        """Scale sizes onto the budget, each side onto its share."""
        if self.settings.start is None:
            return self.problem.project(torch.cat(wanted), self.budget)
        odds = 1 / self._user_share - 1
        strayed = 1 / (1 + odds * math.exp(self.rng.normal(0, _STRAYING)))
        return self.problem.project_sides(wanted[0], wanted[1], strayed, self.budget)

    @property
    def _user_share(self) -> float:
        """The users' part of the dimensions in the best plan so far."""
        plan = self.found[0].plan
        return float(plan.user_sizes.sum()) / plan.numbers

    def _gains(self, measured: Measurement) -> list[Tensor]:
        """Rewards of users and of items, before sizes are paid for."""
        if self.settings.reward == "credit":
            return credit(measured, self.problem.full)
        raw = evaluated(self.problem, measured)
        if self.settings.reward == "raw":
            return raw
        return [quality_ratio(*each) for each in zip(raw, self.peaks, strict=True)]

    def _learn(self, states: list[Tensor], measured: Measurement, following: list[Tensor]) -> None:
        """Store every entity's transition, update both agents, move the prices."""
        told = zip(
            self.sides, states, self._gains(measured), _sides(measured.plan), self.prices, following, strict=True
        )
        for side, seen, gain, sizes, price, then in told:
            side.remember(seen, self.to_actions(sizes, self.dim), gain - price * sizes / self.dim, then)
            for _ in range(self.settings.updates):
                side.agent.update(side.replay)
        if self.settings.price is None:
            wanted, allowed = self._spending(states)
            rate = self.settings.price_rate
            self.prices = [tuned_price(*each, rate) for each in zip(self.prices, wanted, allowed, strict=True)]

    def _spending(self, states: list[Tensor]) -> tuple[list[float], list[float]]:
        """How many dimensions the actors of users and of items want, and may have."""
        wanted = [float(sizes.sum()) for sizes in self._wanted(states)]
        numbers = self.problem.numbers[self.budget]
        if self.settings.start is None:
            return [sum(wanted)] * 2, [numbers] * 2
        return wanted, [self._user_share * numbers, (1 - self._user_share) * numbers]


def _sides(plan: SizePlan) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(plan.user_sizes), torch.from_numpy(plan.item_sizes)
