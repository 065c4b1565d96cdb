"""CIESS under budgets of bytes: where this package departs from the paper (`paper.py`), each departure by itself."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ciess.checks import Checked, Count, Positive, Seed
from ciess.methods import method_name
from ciess.methods.ciess.noise import Noise, NoiseSource
from ciess.methods.ciess.paper import CiessPaper, best_visited
from ciess.methods.ciess.policy import Actor, Scale, described, log_to_actions
from ciess.methods.ciess.td3 import TD3, Replay, TD3Settings, Transitions
from ciess.methods.ciess.walk import RandomWalk
from ciess.methods.marginal import Marginal
from ciess.methods.policy import SizePolicy, full_rows
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Candidate, Problem, SearchResult, seed_for
from ciess.methods.shared.gains import Gains, filling_price
from ciess.methods.shared.student import Student
from ciess.methods.shared.worth import worth_of_numbers
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

_NOISE_UNIT = 2 / 127
"""What one size of TD3's noise is in actions, whatever the dim: here sizes are no equal steps of actions."""
_STRAYING = 0.5
"""Standard deviation of the logarithm of the prices that are learned from, around what fills the budget."""
_TRIED = 9
"""Actions that a critic chooses from."""
_STORED = 100_000
"""Transitions of a side and step, at most: of more, a random part."""
_LEAST = 0.05
"""Of a number's worth in prices, as a state shows it."""


@dataclass(frozen=True)
class Ciess(Checked):
    """CIESS with budgets that hold. Each budget has a search of its own: what is found depends on no other budget.

    The loop is the paper's: the actor, noise, a random walk and the critic choose a size for every user and item, a
    small model of these sizes learns, each entity's transitions are stored, and TD3 learns. Departures:

    - Reward: what the entity's own columns are worth in the loss against the full model, less a price for each number,
      over its size (see `shared/gains.py`). It is known for every size that the walk visits, whichever is taken, and
      hardly left to chance, unlike an entity's quality on validation.
    - State: popularity, size, mean squares of the full row by bands of columns, worth of its last and next numbers, and
      the price. What a state shows comes from other draws than what its reward comes from, so that the critic learns
      how far to trust it.
    - Actions: from the least to the largest size within reach, 0 being the present one. A choice is judged by itself
      (γ is 0): the next step looks anew.
    - Price: one for users and items, at which the sizes that are chosen fill the budget (λ). What is stored has prices
      around it.
    - One small model learns on from plan to plan; the plan of the lowest loss on fresh draws is kept.

    Attributes:
        episodes: of each budget (M). Sizes go on from one to the next, only noise starts anew.
        steps: plans of an episode (T).
        finish_steps: of distillation with each plan, and with the one to begin from.
        looks: at how many samples each row is looked at for each of two gradients, of states and of rewards.
        updates: TD3 updates of each side at every step.
        seed: of everything random.
        start: what finds the plan to begin from; None for equal sizes.
        noise: on actions, whose range is 2.
        choice: the `critic` chooses among the sizes within reach, or the `actor` alone.
        walk_length: steps of the random walk; 0 leaves it out.
        walk_threshold: the largest difference of neighbouring sizes on the walk (t).
        td3: settings of TD3, but for γ; its noise is in 127ths of the range of actions.

    Raises:
        InputError: a setting outside of its bounds.
    """

    cheap: ClassVar[bool] = True

    episodes: Count = 2
    steps: Positive = 4
    finish_steps: Positive = 60
    looks: Positive = 1
    updates: Count = 300
    seed: Seed = 0
    start: Popularity | Marginal | None = field(default_factory=Popularity)
    noise: Noise = field(default_factory=lambda: Noise(scale=0.1))
    choice: Literal["critic", "actor"] = "critic"
    walk_length: Count = 5
    walk_threshold: Positive = 3
    td3: TD3Settings = field(
        default_factory=lambda: TD3Settings(gamma=0.0, max_grad_norm=1.0, batch_size=2048, hidden=64)
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
        """Find plans for every budget. What a search started from is among the candidates."""
        begun = self._started(problem)
        result = SearchResult(best={}, trace=begun.trace)
        for budget in problem.budgets:
            found = _BudgetSearch(self, problem, budget, begun).run(result.trace)
            # A plan that was found twice is the start's.
            plans = {found: Candidate(found, problem.quality_of(found))}
            plans |= {each.plan: each for each in begun.best[budget]}
            result.best[budget] = sorted(plans.values(), key=lambda each: -each.quality)
        return result

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        """A plan after one episode more, with a full model that has learned more."""
        begun = SearchResult({after.budgets[0]: [Candidate(plan, float("nan"))]})
        return _BudgetSearch(dataclasses.replace(self, episodes=1), after, after.budgets[0], begun).run()

    def learned(self, problem: Problem, plan: SizePlan) -> SizePolicy:
        """What sizes rows as a plan of a search does: one actor for users and one for items.

        Args:
            problem: with the rows to learn from, maybe a sample.
            plan: their sizes.
        """
        sides = zip(problem.popularity, full_rows(problem), (plan.user_sizes, plan.item_sizes), strict=True)
        users, items = (Actor.imitating(*each, self.td3, 2 * self.seed + side) for side, each in enumerate(sides))
        return SizePolicy(users, items, problem.shape.dim, method_name(self))

    def _started(self, problem: Problem) -> SearchResult:
        """Plans to begin from, the best first for each budget, and what found them."""
        if self.start is None:
            return SearchResult({budget: [] for budget in problem.budgets})
        begun = dataclasses.replace(self.start, seed=self.seed).search(problem)
        name = method_name(self.start)
        for budget, found in begun.best.items():
            begun.best[budget] = [dataclasses.replace(each, found_by=name) for each in found]
        return begun


class _BudgetSearch:
    """The search for one budget."""

    def __init__(self, settings: Ciess, problem: Problem, budget: Budget, begun: SearchResult) -> None:
        self.settings, self.problem, self.budget = settings, problem, budget
        seed, shape = seed_for(budget, settings.seed), problem.shape
        self.student, self.generator = Student(problem, "ciess", seed), torch.Generator().manual_seed(seed)
        self.noise = NoiseSource(settings.noise, shape.rows, self.generator)
        self.walk = RandomWalk(shape.dim, settings.walk_threshold, settings.walk_length)
        self.features = _features(problem)
        # Beside features: size, worth of four parts, price.
        width, td3 = self.features.shape[1] + 6, dataclasses.replace(settings.td3, gamma=0.0)
        self.agents = [TD3(width, td3, 2 * seed + side, _NOISE_UNIT) for side in (0, 1)]
        visits, steps = settings.walk_length + 1, max(1, settings.episodes * settings.steps)
        self.replays = [Replay(steps * min(_STORED, visits * rows), width) for rows in (shape.n_users, shape.n_items)]
        found = begun.best[budget]
        self.begun = self.student.tried(found[0].plan if found else problem.equal(budget), settings.finish_steps)
        self.student.begin(self.begun)
        precision = problem.precision[budget]
        self.allowed = precision.most_bits(problem.numbers[budget], problem.rows) / precision.bits
        self.first_price = 0.0

    def run(self, trace: list[dict[str, float | str]] | None = None) -> SizePlan:
        """All episodes, told in a trace if there is one; the plan of the lowest loss."""
        best, steps = (self.begun.loss, self.begun.plan), self.settings.steps
        total, before = self.settings.episodes * steps, self.problem.budgets.index(self.budget)
        for step in range(total):
            if step % steps == 0:
                self.noise.reset()
            plan, price = self._choose()
            loss = self.student.learn(plan, self.settings.finish_steps)
            best = min(best, (loss, plan), key=lambda each: each[0])
            if trace is not None:
                about: dict[str, float | str] = {"kind": "ciess", "budget": str(self.budget), "episode": step // steps}
                trace.append({**about, **self.problem.told_of(self.student.small), "loss": loss, "price": price})
            done, all_steps = before * total + step + 1, len(self.problem.budgets) * total
            self.problem.progress("ciess", done, all_steps, f"{self.budget} loss {loss:.4f}")
        return best[1]

    def _choose(self) -> tuple[SizePlan, float]:
        """Look at the small model, learn from that, and choose sizes that fill the budget."""
        shown, paid, both = self._gains()
        usual = both.price(self.allowed)
        self.first_price = self.first_price or usual
        prices = usual * torch.randn(len(shown.now), 1, generator=self.generator).mul(_STRAYING).exp()
        states, noise = self._states(shown, prices), self.noise.draw()[:, None]
        visited = self._visited(shown, states, noise)
        self._learn(states, shown.actions(visited), paid.of(visited, prices))

        def chosen(price: float) -> Tensor:
            return self._chosen(both, self._states(both, torch.full_like(prices, price)), noise)

        price = filling_price(lambda price: both.cost(chosen(price)), self.allowed, usual / 3, usual * 3)
        return self.problem.project(chosen(price), self.budget), price

    def _gains(self) -> list[Gains]:
        """By some draws, by others, and by both."""
        plan = self.student.plan
        some, others = (worth_of_numbers(plan, self.student.slopes(self.settings.looks)) for _ in range(2))
        return [Gains(plan, each, self.problem.stands_for) for each in (some, others, (some + others) / 2)]

    def _states(self, gains: Gains, prices: Tensor) -> Tensor:
        """(rows, s) what entities see."""
        size = log_to_actions(gains.now, self.problem.shape.dim)[:, None]
        worth, price = gains.parts(prices).clamp(min=_LEAST).log(), (prices / self.first_price).log()
        return torch.cat([self.features, size, worth / 2, price / 4], dim=1)

    def _visited(self, gains: Gains, states: Tensor, noise: Tensor) -> Tensor:
        """(rows, m) whole sizes within reach: the actor's with noise, and those that a walk from there visits."""
        wanted = gains.sizes(self._act(states, 0 if self.settings.noise.after_choice else noise))
        return gains.within(self.walk.visit(wanted.squeeze(1).round(), self.generator))

    def _act(self, states: Tensor, noise: Tensor | float) -> Tensor:
        acts = [agent.act(seen) for agent, seen in zip(self.agents, self._apart(states), strict=True)]
        return (torch.cat(acts)[:, None] + noise).clamp(-1, 1)

    def _chosen(self, gains: Gains, states: Tensor, noise: Tensor) -> Tensor:
        """(rows,) sizes that the critics value most of those within reach, or the actors' own."""
        if self.settings.choice == "actor":
            return gains.sizes(self._act(states, noise)).squeeze(1)
        actions = torch.linspace(-1, 1, _TRIED).expand(len(states), _TRIED)
        parts = zip(self.agents, *map(self._apart, (states, actions)), strict=True)
        best = torch.cat([best_visited(agent, seen, tried, tried) for agent, seen, tried in parts])[:, None]
        late = noise if self.settings.noise.after_choice else 0
        return gains.sizes((best + late).clamp(-1, 1)).squeeze(1)

    def _learn(self, states: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Store a transition for each size that was visited, update both agents."""
        parts = zip(self.agents, self.replays, *map(self._apart, (states, actions, rewards)), strict=True)
        for agent, replay, seen, acted, gained in parts:
            at = torch.randperm(acted.numel(), generator=self.generator)[:_STORED]
            each = seen[at // acted.shape[1]]
            replay.add(Transitions(each, acted.reshape(-1)[at], gained.reshape(-1)[at], each))
            for _ in range(self.settings.updates):
                agent.update(replay)

    def _apart(self, values: Tensor) -> list[Tensor]:
        """Users' and items' part of values of all rows."""
        return list(values.split(self.problem.shape[:2]))


def _features(problem: Problem) -> Tensor:
    """(rows, m) what users' and items' rows are like, each among its own kind."""
    sides = [described(*each) for each in zip(problem.popularity, full_rows(problem), strict=True)]
    return torch.cat([Scale.of(each).scaled(each) for each in sides])
