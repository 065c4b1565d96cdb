"""CIESS: a TD3 policy that gives every user and every item a size.

Qu et al., Continuous Input Embedding Size Search For Recommender Systems, SIGIR 2023 (arXiv 2304.03501).
"""

import dataclasses
import heapq
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.methods import method_name
from ciess.methods.ciess.noise import Noise, NoiseSource
from ciess.methods.ciess.td3 import TD3, Replay, TD3Settings, Transitions
from ciess.methods.ciess.walk import RandomWalk
from ciess.methods.equal import EqualSizes
from ciess.methods.fidelity import FineTune, Scratch, Truncate
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Measurement, Problem, SearchResult
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

_STATE_SIZE = 4


@dataclass(frozen=True)
class Ciess:
    """CIESS with budgets that hold. One search serves all budgets: episodes take turns over them.

    An episode starts from full sizes. At each step the actor, noise, a random walk and the critic choose a size
    for every user and item; the sizes are scaled onto the episode's budget and measured; each entity's
    transition is stored; actor and critics learn. `Ciess.paper()` and `Ciess.program()` follow the publication; the
    default departs from it where that measured better:

    - It starts from the best simple rule: actors learn to act as the popularity rule that was best.
    - How much each side gets is no entity's choice: the share is the rule's, strays a little at every step, and
      stays where a plan was the best so far. No entity's reward tells what moving memory between the sides is worth.
    - Plans are measured by cutting the full model; with LightGCN after a few steps of distillation, since there a
      mere cut misleads.
    - Sizes are actions on a logarithmic scale: at tight budgets the paper's linear scale leaves all sizes in a
      corner of the action's range.
    - Rewards count what an entity adds to the users' summed quality: a user the quality it lost against the full
      model, an item the part of users' quality that its own hits earned. The paper rewards an item with its
      users' mean quality, which hardly depends on the item's own size. The price of a number tunes itself, for
      each side and budget.
    - Quality and size in the state are means over entities of like popularity. One user's validation quality is
      mostly chance: a policy that sees it fits that chance, gaining on validation what it loses on test.
    - The budget is part of the state.

    Attributes:
        episodes: episodes in all (M).
        steps: steps of an episode (T).
        updates: TD3 updates of each side at every step.
        seed: of everything random.
        fidelity: how plans are measured; None for what suits the backbone, see `suiting`.
        start: the simple rule to start from; None starts from nothing.
        fill: scale every plan onto the episode's budget before it is measured; else a plan is measured as the
            policy wants it, and the best are scaled onto each budget at the end.
        log_sizes: sizes on a logarithmic scale of actions; else on the paper's linear one.
        reward: `credit` as above; `ratio`, the paper's share of the full model's quality; `raw`, the published
            program's quality.
        price: what a row of full size costs (λ); None tunes it for each budget and side.
        price_rate: how fast the price follows when the actor would spend more or less than the budget.
        price_power: the price is for (size / dim) to this power: 2 in the paper.
        noise: on actions.
        walk_length: steps of the random walk; 0 leaves it out.
        walk_threshold: the largest difference of neighbouring sizes on the walk (t).
        peers: groups of like popularity whose entities share the quality and size they see; 0 for none.
        finalists: candidates returned for each budget, beside equal sizes and the plans that it started from.
        td3: settings of TD3.
    """

    cheap: ClassVar[bool] = True

    episodes: int = 6
    steps: int = 4
    updates: int = 4
    seed: int = 0
    fidelity: Truncate | FineTune | Scratch | None = None
    start: Popularity | None = field(default_factory=Popularity)
    fill: bool = True
    log_sizes: bool = True
    reward: Literal["credit", "ratio", "raw"] = "credit"
    price: float | None = None
    price_rate: float = 0.1
    price_power: int = 1
    noise: Noise = field(default_factory=Noise)
    walk_length: int = 5
    walk_threshold: int = 5
    peers: int = 32
    finalists: int = 1
    td3: TD3Settings = field(default_factory=lambda: TD3Settings(discount=0.9, batch_size=2048, hidden=64))

    @classmethod
    def paper(cls, price: float = 0.4, dim: int = 128) -> "Ciess":
        """As the paper's text says (Sec. 3 and 4.1): λ is 0.4 on ML-1M and 0.2 on Yelp2018; noise is σ = 6 in sizes."""
        noise = Noise(scale=12 / (dim - 1))
        published = TD3Settings(target_noise=4 / (dim - 1), target_noise_limit=10 / (dim - 1))
        return cls(
            episodes=30,
            steps=10,
            updates=1,
            fidelity=Scratch(),
            start=None,
            fill=False,
            log_sizes=False,
            reward="ratio",
            price=price,
            price_power=2,
            noise=noise,
            peers=0,
            finalists=3,
            td3=published,
        )

    @classmethod
    def program(cls, price: float = 0.02, dim: int = 128, batches: int = 2000) -> "Ciess":
        """As the published program does where it differs from the paper.

        Steps are 11, quality is raw, one noise is drawn for all and added after the critic's choice, gradients are
        clipped at 0.01. `batches` of the backbone's triplets train a model: 2,000 LightGCN, 3,000 NGCF, 1,500 NCF on
        ML-1M. Its price counts (size − 1) / dim; here it is size / dim.
        """
        paper = cls.paper(price, dim)
        return dataclasses.replace(
            paper,
            steps=11,
            fidelity=Scratch(batches),
            reward="raw",
            noise=dataclasses.replace(paper.noise, shared=True, after_choice=True),
            td3=dataclasses.replace(paper.td3, gradient_norm=0.01),
        )

    def search(self, problem: Problem) -> SearchResult:
        """Find plans for every budget of the problem. Equal sizes are always among the candidates."""
        search = _Search(self, problem)
        for episode in range(self.episodes):
            search.run_episode(episode)
        return search.result()


class _Side:
    """Users or items: their agent, their replay and what they see."""

    def __init__(self, popularity: NDArray[np.int64], settings: Ciess, seed: int, generator: torch.Generator) -> None:
        self.popularity = _scaled(np.log1p(popularity) if settings.log_sizes else popularity.astype(np.float64))
        self.agent = TD3(_STATE_SIZE, settings.td3, seed)
        # The program's 100 steps' worth, where so many will come.
        self.replay = Replay(min(100, settings.episodes * settings.steps + 1) * len(popularity), _STATE_SIZE)
        self.noise = NoiseSource(settings.noise, len(popularity), generator)
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
        self.rng = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.sides = [
            _Side(popularity, settings, 2 * settings.seed + side, self.generator)
            for side, popularity in enumerate(problem.popularity)
        ]
        self.walk = RandomWalk(self.dim, settings.walk_threshold, settings.walk_length)
        price = 1.0 if settings.price is None else settings.price
        self.prices = {budget: [price, price] for budget in problem.budgets}
        self.peak_items = problem.item_quality(problem.full.user_quality)
        self.found: dict[Budget, list[Candidate]] = {budget: [] for budget in problem.budgets}
        self.started: dict[Budget, list[Candidate]] = {budget: [] for budget in problem.budgets}
        self.trace: list[dict[str, float | str]] = []
        if settings.start is not None:
            self._start_from(settings.start)

    def _start_from(self, rule: Popularity) -> None:
        """Take over the rule's plans, and teach both actors to act so."""
        started = dataclasses.replace(rule, seed=self.settings.seed).search(self.problem)
        self.started = {
            budget: [dataclasses.replace(each, found_by=method_name(rule)) for each in candidates]
            for budget, candidates in started.best.items()
        }
        self.trace = started.trace
        self.found = {budget: list(candidates) for budget, candidates in self.started.items()}
        lessons: list[list[tuple[Tensor, Tensor]]] = [[], []]
        for budget, [best, *_] in started.best.items():
            first = self._first_states(budget)
            then = self._observe(self.problem.measure(best.plan), budget)
            for number, sizes in enumerate(_tensors(best.plan)):
                lessons[number] += [(states[number], self._to_actions(sizes)) for states in (first, then)]
        for side, taught in zip(self.sides, lessons, strict=True):
            side.agent.imitate(
                torch.cat([states for states, _ in taught]), torch.cat([actions for _, actions in taught])
            )

    def run_episode(self, episode: int) -> None:
        """One episode on one budget, from full sizes; its last act is the actor's own plan, without noise."""
        budget = self.problem.budgets[episode % len(self.problem.budgets)]
        states = self._first_states(budget)
        for side in self.sides:
            side.noise.reset()
        for step in range(self.settings.steps):
            measured = self._measure(self._explore(states), budget, episode, "explore")
            following = self._observe(measured, budget)
            self._learn(states, measured, following, budget)
            states = following
            self.problem.progress(
                "search",
                episode * self.settings.steps + step + 1,
                self.settings.episodes * self.settings.steps,
                f"{budget} best {self.found[budget][0].quality:.4f}" if self.found[budget] else "",
            )
        self._measure([self._to_sizes(side.agent.act(s)) for side, s in self._each(states)], budget, episode, "act")

    def result(self) -> SearchResult:
        """The finalists of each budget, the plans it started from and equal sizes, the best first."""
        equal = EqualSizes().search(self.problem)
        best = {}
        for budget, found in self.found.items():
            if not self.settings.fill:
                found = [self._filled(each.plan, budget) for each in found]
            plans = {each.plan: each for each in [*found, *self.started[budget], *equal.best[budget]]}
            best[budget] = sorted(plans.values(), key=lambda candidate: -candidate.quality)
        return SearchResult(best, self.trace)

    def _filled(self, plan: SizePlan, budget: Budget) -> Candidate:
        measured = self.problem.measure(self.problem.project(plan.sizes.astype(np.float64), budget))
        return Candidate(measured.plan, measured.quality)

    @property
    def _lengths(self) -> tuple[int, int]:
        return self.problem.shape.n_users, self.problem.shape.n_items

    def _each(self, states: list[Tensor]) -> list[tuple[_Side, Tensor]]:
        return list(zip(self.sides, states, strict=True))

    def _first_states(self, budget: Budget) -> list[Tensor]:
        """Full sizes, and a quality of which nothing is known."""
        return self._states([torch.ones(n) for n in self._lengths], [torch.zeros(n) for n in self._lengths], budget)

    def _states(self, sizes: list[Tensor], quality: list[Tensor], budget: Budget) -> list[Tensor]:
        # A budget is seen as the mean size it allows, on the scale of sizes; where plans need not fill it, it is not.
        mean_size = torch.tensor(self.problem.numbers[budget] / self.problem.shape.rows)
        seen = float(self._to_actions(mean_size)) if self.settings.fill else 0.0
        return [side.states(s, q, seen) for side, s, q in zip(self.sides, sizes, quality, strict=True)]

    def _explore(self, states: list[Tensor]) -> list[Tensor]:
        """Desired sizes: the actor's, noised, then the critic's choice among those a walk visits (Sec. 3.3)."""
        late = self.settings.noise.after_choice
        desired = []
        for side, state in self._each(states):
            noise = side.noise.draw()
            size = self._to_sizes((side.agent.act(state) + (0 if late else noise)).clamp(-1, 1))
            if self.settings.walk_length and len(side.replay):
                size = self._chosen(side, state, size)
            if late:
                size = self._to_sizes((self._to_actions(size) + noise).clamp(-1, 1))
            desired.append(size)
        return desired

    def _chosen(self, side: _Side, state: Tensor, size: Tensor) -> Tensor:
        """The critic's best of the sizes that a walk from `size` visits."""
        visited = self.walk.visit(size.round(), self.generator)
        repeated = state.repeat_interleave(visited.shape[1], dim=0)
        value = side.agent.value(repeated, self._to_actions(visited.reshape(-1)))
        return visited.gather(1, value.view_as(visited).argmax(1, keepdim=True)).squeeze(1).float()

    def _measure(self, desired: list[Tensor], budget: Budget, episode: int, kind: str) -> Measurement:
        """Scale desired sizes onto the budget, measure, and remember the plan if it is among the best."""
        plan = self._plan(desired, budget)
        measured = self.problem.measure(plan)
        for each in (budget,) if self.settings.fill else self.problem.budgets:
            # What fills a budget fits it, though it may keep more numbers than surely fit.
            if self.settings.fill or plan.numbers <= self.problem.numbers[each] or not self.found[each]:
                best = [*self.found[each], Candidate(plan, measured.quality)]
                self.found[each] = heapq.nlargest(self.settings.finalists, best, key=lambda found: found.quality)
        user_price, item_price = self.prices[budget]
        self.trace.append(
            {
                "kind": kind,
                "episode": episode,
                "budget": str(budget),
                "quality": measured.quality,
                "user_price": user_price,
                "item_price": item_price,
                "user_size": float(plan.user_sizes.mean()),
                "item_size": float(plan.item_sizes.mean()),
            }
        )
        return measured

    def _plan(self, desired: list[Tensor], budget: Budget) -> SizePlan:
        if not self.settings.fill:
            return SizePlan.from_sizes(torch.cat(desired).round().int().numpy(), self.problem.shape)
        if self.settings.start is None:
            return self.problem.project(torch.cat(desired), budget)
        share = self._user_share(budget)
        strayed = 1 / (1 + (1 / share - 1) * math.exp(self.rng.normal(0, 0.15)))
        return self.problem.project_sides(desired[0], desired[1], strayed, budget)

    def _user_share(self, budget: Budget) -> float:
        """The users' part of the numbers in the best plan so far."""
        plan = self.found[budget][0].plan
        return float(plan.user_sizes.sum()) / plan.numbers

    def _observe(self, measured: Measurement, budget: Budget) -> list[Tensor]:
        """The states after a measurement."""
        sizes = [self._to_actions(size) for size in _tensors(measured.plan)]
        ratios = [2 * ratio - 1 for ratio in self._ratios(measured)]
        sizes, ratios = ([side.shared(v) for side, v in zip(self.sides, vs, strict=True)] for vs in (sizes, ratios))
        return self._states(sizes, ratios, budget)

    def _ratios(self, measured: Measurement) -> list[Tensor]:
        """Quality of users and of items as a share of the full model's, at most 1."""
        peaks = (self.problem.full.user_quality, self.peak_items)
        now = (measured.user_quality, self.problem.item_quality(measured.user_quality))
        return [(quality / peak.clamp(min=1e-5)).clamp(max=1) for quality, peak in zip(now, peaks, strict=True)]

    def _gains(self, measured: Measurement) -> list[Tensor]:
        """The rewards of users and of items, before sizes are paid for."""
        if self.settings.reward == "ratio":
            return self._ratios(measured)
        if self.settings.reward == "raw":
            return [measured.user_quality, self.problem.item_quality(measured.user_quality)]
        full = self.problem.full
        gains = (measured.user_quality - full.user_quality, measured.item_credit - full.item_credit)
        return [gain / full.quality for gain in gains]

    def _learn(self, states: list[Tensor], measured: Measurement, following: list[Tensor], budget: Budget) -> None:
        """Store every entity's transition, update both agents, move the prices."""
        keep = (self.problem.measured_users, torch.ones(self.problem.shape.n_items, dtype=torch.bool))
        gains, sizes = self._gains(measured), _tensors(measured.plan)
        prices = self.prices[budget]
        spent = []
        for side, state, then, gain, size, kept, price in zip(
            self.sides, states, following, gains, sizes, keep, prices, strict=True
        ):
            reward = gain - price * (size / self.dim) ** self.settings.price_power
            side.replay.add(Transitions(state[kept], self._to_actions(size)[kept], reward[kept], then[kept]))
            for _ in range(self.settings.updates):
                side.agent.update(side.replay)
            spent.append(float(self._to_sizes(side.agent.act(state)).sum()))
        if self.settings.price is None:
            self._tune_prices(budget, spent)

    def _tune_prices(self, budget: Budget, spent: list[float]) -> None:
        """Dual ascent: a price rises while the actor would spend more than there is, and falls while less."""
        numbers = self.problem.numbers[budget]
        if self.settings.start is None:
            allowed, spent = [float(numbers)] * 2, [sum(spent)] * 2
        else:
            share = self._user_share(budget)
            allowed = [share * numbers, (1 - share) * numbers]
        for side, (wanted, limit) in enumerate(zip(spent, allowed, strict=True)):
            over = min(1.0, max(-1.0, math.log(wanted / limit)))
            self.prices[budget][side] *= math.exp(self.settings.price_rate * over)

    def _to_sizes(self, actions: Tensor) -> Tensor:
        """Actions in [−1, 1] to sizes in [1, dim]."""
        place = (actions + 1) / 2
        return self.dim**place if self.settings.log_sizes else 1 + place * (self.dim - 1)

    def _to_actions(self, sizes: Tensor) -> Tensor:
        sizes = sizes.float()
        place = sizes.log() / math.log(self.dim) if self.settings.log_sizes else (sizes - 1) / (self.dim - 1)
        return 2 * place - 1


def _tensors(plan: SizePlan) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(plan.user_sizes), torch.from_numpy(plan.item_sizes)


def _scaled(values: NDArray[np.float64]) -> Tensor:
    """Min-max scaled to [−1, 1]; all 0 where all are the same."""
    low, high = values.min(), values.max()
    scaled = 2 * (values - low) / (high - low) - 1 if high > low else np.zeros_like(values)
    return torch.from_numpy(scaled).float()


def _groups_of_like(popularity: NDArray[np.int64], groups: int) -> Tensor:
    """(n,) group of each entity: quantiles of popularity, so that the same popularity means the same group."""
    edges = np.unique(np.quantile(popularity, np.linspace(0, 1, groups + 1)[1:-1]))
    return torch.from_numpy(np.unique(np.searchsorted(edges, popularity, side="right"), return_inverse=True)[1])
