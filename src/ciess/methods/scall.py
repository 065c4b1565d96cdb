"""SCALL: an agent chooses how sizes are distributed over users and over items, anew for each segment of a stream.

Qu et al., Scalable Dynamic Embedding Size Search for Streaming Recommendation, CIKM 2024 (arXiv 2407.15411).
"""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import poch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from ciess.checks import Checked, Count, Positive, Seed
from ciess.methods.bet import LEAST, by_popularity
from ciess.methods.ciess.td3 import Replay, Transitions
from ciess.methods.policy import full_rows
from ciess.methods.problem import Candidate, Problem, SearchResult, seed_for
from ciess.methods.shared.sac import SAC, SACSettings
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan
from ciess.train.checkpoint import Composed, Part, put_back, taken

_STORED = 512
"""Transitions that are remembered, over all segments."""
_LEAST_PEAK = 1e-5


class Choice(NamedTuple):
    """The users' share of the parameters, and for each side the power s of U^s, as which sizes are distributed.

    U is uniform in 0..1; this is the power law with density ∝ x^(1/s − 1). At a power of 0 all rows are alike; the
    higher it is, the fewer rows have most.
    """

    user_share: float
    user_power: float
    item_power: float

    @classmethod
    def of(cls, action: Tensor) -> "Choice":
        """Of an action, (3,) in [−1, 1]: shares in 0..1, powers in ¼..4."""
        share, *powers = action.double().tolist()
        return cls((share + 1) / 2, *(4.0**power for power in powers))

    def plan(self, problem: Problem, budget: Budget) -> SizePlan:
        """Sizes that fill the budget, on each side larger for who has more interactions."""
        powers = (self.user_power, self.item_power)
        sides = zip(powers, problem.popularity, strict=True)
        users, items = (by_popularity(expected_draws(len(each), power), each) for power, each in sides)
        return problem.project_sides(users, items, self.user_share, budget)


def expected_draws(n: int, power: float) -> NDArray[np.float64]:
    """(n,) what n draws of U^s, U uniform in 0..1, are expected to be in rising order.

    The k-th smallest is Γ(k + s) / Γ(k) · Γ(n + 1) / Γ(n + 1 + s); next to nothing counts as a millionth.
    """
    return np.asarray(np.maximum(poch(np.arange(1.0, n + 1), power) / poch(n + 1.0, power), LEAST))


@dataclass(frozen=True)
class SCALL(Checked):
    """SCALL (Qu et al.): an agent, trained by SAC, chooses the users' share of the parameters and a power law of sizes
    for each side; rows get the expected sorted draws in order of popularity, scaled onto the budget.

    In a stream the agent goes on from segment to segment: its networks, optimisers and replay buffer are kept. Its
    state has one length however many rows there are: popularities of each side, sorted and pooled into groups, the mean
    rows of the full model, and the last reward. A search elsewhere is that of a first segment.

    Departures: the reward is the plan's mean quality on validation, measured as everywhere here, over the full
    model's, in standard deviations; the published program stops by test data, which no search sees here. A choice is
    judged by itself (γ is 0), since plans are measured apart from each other. One family of distributions serves, and
    its range is our reading. The full model learns from all that came before, so the paper's replay of a fifth of the
    interactions has no place.

    Attributes:
        steps: plans that are measured for each budget, the last one at the middle of the policy.
        updates: of SAC after each step.
        groups: of users, and of items, as the state shows popularity.
        finalists: candidates returned for each budget.
        sac: settings of SAC.
        seed: of everything random.
    """

    cheap: ClassVar[bool] = True

    steps: Positive = 30
    updates: Count = 30
    groups: Positive = 256
    finalists: Positive = 3
    sac: SACSettings = field(
        default_factory=lambda: SACSettings(gamma=0.0, lr=3e-3, temperature=0.3, batch_size=32, hidden=64)
    )
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Find plans for every budget, each by an agent of its own."""
        agents: dict[str, Part] = {}
        result, seen = SearchResult(best={}), _seen(problem, self.groups)
        for number, budget in enumerate(problem.budgets):
            agents[str(budget)] = agent = _Agent(self, len(seen), seed_for(budget, self.seed))
            if problem.carried is not None:
                put_back({str(budget): agent}, problem.carried)
            measured: dict[SizePlan, float] = {}
            for step in range(1, self.steps + 1):
                action = agent.choose(seen, drawn=step < self.steps)
                plan = (choice := Choice.of(action)).plan(problem, budget)
                told = problem.told(plan)
                measured[plan] = told["quality"]
                agent.learn(seen, action, told["quality"] / max(problem.full.quality, _LEAST_PEAK))
                result.trace.append({"kind": "scall", "budget": str(budget), **told, **choice._asdict()})
                done, total = number * self.steps + step, len(problem.budgets) * self.steps
                problem.progress("scall", done, total, f"{budget} best {max(measured.values()):.4f}")
            found = sorted(measured, key=lambda plan: -measured[plan])
            result.best[budget] = [Candidate(plan, measured[plan]) for plan in found[: self.finalists]]
        result.carried = taken(agents)
        return result

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        """The same distributions, given out by what users and items have now."""
        sides = zip((plan.user_sizes, plan.item_sizes), after.popularity, strict=True)
        sizes = np.concatenate([by_popularity(*side) for side in sides])
        return SizePlan.from_sizes(sizes, plan.shape, plan.precision)


class _Agent(Composed):
    """SAC with its replay buffer and the last reward."""

    def __init__(self, settings: SCALL, seen: int, seed: int) -> None:
        n_actions = len(Choice._fields)
        self._updates = settings.updates
        self._sac, self._replay = SAC(seen + 1, n_actions, settings.sac, seed), Replay(_STORED, seen + 1, (n_actions,))
        self._last = torch.zeros(1)

    def choose(self, seen: Tensor, drawn: bool) -> Tensor:
        """(3,) an action."""
        return self._sac.act(self._state(seen), drawn).squeeze(0)

    def learn(self, seen: Tensor, action: Tensor, reward: float) -> None:
        """Remember what came of an action, and learn from all that is remembered."""
        before, self._last[0] = self._state(seen), reward
        self._replay.add(Transitions(before, action[None], self._last.clone(), self._state(seen)))
        for _ in range(self._updates):
            self._sac.update(self._replay)

    def _state(self, seen: Tensor) -> Tensor:
        return torch.cat([seen, self._last])[None]

    @property
    def parts(self) -> dict[str, Part]:
        """All that learning changes."""
        return {"sac": self._sac, "replay": self._replay, "last": self._last}


def _seen(problem: Problem, groups: int) -> Tensor:
    """(2 · groups + 2 · dim,) what the state shows of a problem: pooled popularity and mean row of both sides.

    Logarithms of popularity are over the root of the groups, so that all together are as long, however many these are.
    """
    parts = []
    for popularity, rows in zip(problem.popularity, full_rows(problem), strict=True):
        ranked = torch.from_numpy(np.log1p(np.sort(popularity)[::-1])).float()
        parts += [adaptive_avg_pool1d(ranked[None], groups)[0] / groups**0.5, torch.from_numpy(rows.mean(0))]
    return torch.cat(parts)
