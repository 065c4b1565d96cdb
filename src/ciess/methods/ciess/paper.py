"""CIESS as published: Qu et al., Continuous Input Embedding Size Search For Recommender Systems, SIGIR 2023.

Equations and sections are those of arXiv 2304.03501. "Program" is the authors' published code, where it differs.
Elsewhere: masks (Eq. 1 to 3) `tables/mask.py`, held in `train/fit.py`; BPR with l2 (Eq. 4) `train/losses.py`; a user's
Recall and NDCG (Eq. 8) `evaluation/metrics.py`, an item's quality (Eq. 9) `item_quality` in `methods/problem.py`; walk
(Eq. 12 and 13) `walk.py`; TD3 `td3.py`; the program's training `program.py`; retraining (Eq. 16) `experiment/bench.py`.
"""

import dataclasses
import heapq
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ciess.checks import Checked, Count, NotNegative, Positive, Seed
from ciess.methods.ciess.noise import Noise, NoiseSource
from ciess.methods.ciess.program import published_training
from ciess.methods.ciess.td3 import TD3, Replay, TD3Settings, Transitions
from ciess.methods.ciess.walk import RandomWalk
from ciess.methods.problem import Candidate, Measurement, Problem, SearchResult
from ciess.tables.budget import Budget
from ciess.tables.plan import SizePlan

STATE_SIZE = 3
_LEAST_PEAK = 1e-5


@dataclass(frozen=True)
class CiessPaper(Checked):
    """CIESS as published, see `ciess.Ciess.paper` and `ciess.Ciess.program`. One search serves all budgets.

    Every plan is measured by training a new model, which takes days. A budget that no plan of the search fits gets the
    smallest plan, scaled onto it; the paper is silent about that.

    Attributes:
        price: λ in the reward (Eq. 10); the paper takes 0.4 on ML-1M and 0.2 on Yelp2018.
        episodes: M.
        steps: T, iterations of an episode.
        dim: d_max, the largest size; None for the backbone's.
        reward: q_n in the reward is the `ratio` to the full model's quality (Eq. 7), or the `raw` quality (program).
        free_dimensions: dimensions that cost nothing; the program pays for (d_n − 1) / d_max.
        peak_first: an episode starts with the full model's quality (Alg. 1, line 4); the program's state shows 0.
        noise: ϵ of Eq. 11, in sizes.
        walk_length: steps of the random walk; 0 leaves it out.
        walk_threshold: t of Eq. 12.
        training: of a plan's model: 5 epochs of the program's batches (`paper`), or as many as it takes.
        finalists: l of Eq. 15, plans retrained for each budget.
        td3: settings of TD3, noise in sizes.
        seed: of everything random.

    Raises:
        InputError: a setting outside of its bounds.
    """

    by_default: ClassVar[bool] = False
    from_scratch: ClassVar[bool] = True
    """Selective retraining (Sec. 2.3): a run trains a new model for each finalist, and keeps the best (Eq. 16)."""

    price: NotNegative = 0.4
    episodes: Positive = 30
    steps: Positive = 10
    dim: Positive | None = None
    reward: Literal["ratio", "raw"] = "ratio"
    free_dimensions: Count = 0
    peak_first: bool = True
    noise: Noise = field(default_factory=Noise)
    walk_length: Count = 5
    walk_threshold: Positive = 5
    training: Literal["paper", "program"] = "paper"
    finalists: Positive = 3
    td3: TD3Settings = field(default_factory=TD3Settings)
    seed: Seed = 0

    @classmethod
    def program(cls, price: float = 0.02, dim: int | None = None) -> "CiessPaper":
        """As the authors' program does where it differs from the paper."""
        return cls(
            price=price,
            steps=11,
            dim=dim,
            reward="raw",
            free_dimensions=1,
            peak_first=False,
            noise=Noise(shared=True, after_choice=True),
            training="program",
            td3=TD3Settings(max_grad_norm=0.01),
        )

    def search(self, problem: Problem) -> SearchResult:
        """Algorithm 1, but for the retraining of line 17, which `Bench.run` does."""
        run = _Run(self, problem)
        for episode in range(self.episodes):
            run.episode(episode)
        return SearchResult({budget: run.finalists(budget) for budget in problem.budgets}, run.trace)


def to_sizes(actions: Tensor, dim: int) -> Tensor:
    """Actions in [−1, 1] to sizes in [1, d_max] (Sec. 2.2.4)."""
    return 1 + (actions + 1) / 2 * (dim - 1)


def to_actions(sizes: Tensor, dim: int) -> Tensor:
    """Sizes in [1, d_max] to actions in [−1, 1]; a single possible size is −1."""
    return 2 * (sizes.float() - 1) / max(dim - 1, 1) - 1


def min_max(values: NDArray[np.floating] | NDArray[np.integer]) -> Tensor:
    """(n,) values scaled to [−1, 1], by the least and the largest; all 0 where they are equal."""
    low, high = values.min(), values.max()
    scaled = 2 * (values - low) / (high - low) - 1 if high > low else np.zeros(len(values))
    return torch.from_numpy(np.asarray(scaled)).float()


def evaluated(problem: Problem, measured: Measurement) -> list[Tensor]:
    """eval(e_n) of users (Eq. 8) and of items, the mean over their users in train (Eq. 9); NaN where nobody is
    measured."""
    return [measured.user_quality, problem.item_quality(measured.user_quality)]


def quality_ratio(quality: Tensor, peak: Tensor) -> Tensor:
    """q_n = min(1, eval(e_n | E ⊙ M) / eval(e_n | E)) (Eq. 7), `peak` being the fully trained full-size model's."""
    return (quality / peak.clamp(min=_LEAST_PEAK)).clamp(max=1)


def paid_reward(quality: Tensor, sizes: Tensor, dim: int, price: float, free: int = 0) -> Tensor:
    """r_n = q_n − λ (d_n / d_max)² (Eq. 10)."""
    return quality - price * ((sizes - free) / dim) ** 2


def best_visited(agent: TD3, states: Tensor, visited: Tensor, actions: Tensor) -> Tensor:
    """(n,) of the sizes that a walk visited, (n, m), the one that Q₁ values most as an action (Eq. 14)."""
    values = agent.value(states.repeat_interleave(visited.shape[1], dim=0), actions.reshape(-1)).view_as(visited)
    return visited.gather(1, values.argmax(1, keepdim=True)).squeeze(1).float()


class Side:
    """Users or items: each has an actor, critics and a replay buffer of its own (Sec. 2.2.5).

    Args:
        popularity: (n,) interactions in train.
        agent: TD3.
        measurements: of the search; the buffer keeps the last 100 of them.
    """

    def __init__(self, popularity: NDArray[np.floating] | NDArray[np.integer], agent: TD3, measurements: int) -> None:
        self.popularity, self.agent = min_max(popularity), agent
        self.replay = Replay(min(100, max(1, measurements)) * len(popularity), STATE_SIZE)

    def states(self, sizes: Tensor, quality: Tensor) -> Tensor:
        """s_n = (f_n, d_n, q_n) (Eq. 6), each scaled to [−1, 1]: (n, 3).

        Args:
            sizes: (n,) current sizes as actions in [−1, 1].
            quality: (n,) q_n in [0, 1], NaN where unknown: that is seen as the middle.
        """
        return torch.stack([self.popularity, sizes, (2 * quality - 1).nan_to_num(0.0)], dim=1)

    def remember(self, states: Tensor, actions: Tensor, rewards: Tensor, next_states: Tensor) -> None:
        """Store a transition (s_n, d_n, r_n, s′_n) for each entity whose reward is known (Sec. 2.2.4)."""
        known = ~rewards.isnan()
        self.replay.add(Transitions(states[known], actions[known], rewards[known], next_states[known]))


class _Run:
    """Algorithm 1."""

    def __init__(self, settings: CiessPaper, problem: Problem) -> None:
        self.settings, self.problem = settings, problem
        self.dim = min(settings.dim or problem.shape.dim, problem.shape.dim)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.noise = NoiseSource(settings.noise, problem.shape.rows, self.generator)
        self.walk = RandomWalk(self.dim, settings.walk_threshold, settings.walk_length)
        self.fidelity = published_training(problem.config, 5 if settings.training == "paper" else None)
        self.measurements = settings.episodes * settings.steps
        one_size = 2 / max(self.dim - 1, 1)
        agents = [TD3(STATE_SIZE, settings.td3, 2 * settings.seed + side, one_size) for side in (0, 1)]
        sides = zip(problem.popularity, agents, strict=True)
        self.sides = [Side(popularity, agent, self.measurements) for popularity, agent in sides]
        self.peaks = evaluated(problem, problem.full)
        self.found: dict[Budget, dict[SizePlan, tuple[float, float]]] = {budget: {} for budget in problem.budgets}
        self.smallest = problem.full.plan
        self.trace: list[dict[str, float | str]] = []

    def episode(self, episode: int) -> None:
        """Lines 4 to 15."""
        # Line 4: the state of full sizes; qualities that are not known yet, NaN, are states of 0.
        ratios = [quality_ratio(peak, peak if self.settings.peak_first else peak * torch.nan) for peak in self.peaks]
        states = [side.states(torch.ones(len(q)), q) for side, q in zip(self.sides, ratios, strict=True)]
        self.noise.reset()
        for step in range(self.settings.steps):
            # Lines 8 and 9: a size for every user and item.
            sizes = self._choose(states)
            plan = SizePlan.from_sizes(torch.cat(sizes).int().numpy(), self.problem.shape)
            # Line 7, which needs all sizes, 10 and 11: train a new model, evaluate it. Lines 12 to 14: update agents.
            measured = self.problem.measure(plan, self.fidelity)
            states, quality = self._learn(states, sizes, measured)
            self._keep(measured, quality)
            means: dict[str, float | str] = {"user_size": float(sizes[0].mean()), "item_size": float(sizes[1].mean())}
            told = self.problem.told(plan, self.fidelity)
            self.trace.append({"kind": "explore", "episode": episode, **told, **means})
            note = f"quality {measured.quality:.4f}, sparsity {plan.sparsity:.0%}"
            self.problem.progress("search", episode * self.settings.steps + step + 1, self.measurements, note)

    def _choose(self, states: list[Tensor]) -> list[Tensor]:
        """d_n = μ(s_n) + ϵ (Eq. 11), then the critic's choice among the sizes that a random walk from there visits."""
        late, chosen = self.settings.noise.after_choice, []
        noises = self.noise.draw().split([len(state) for state in states])
        for side, state, noise in zip(self.sides, states, noises, strict=True):
            start = self._whole(to_sizes(side.agent.act(state), self.dim) + (0 if late else noise))
            visited = self.walk.visit(start, self.generator)
            size = best_visited(side.agent, state, visited, to_actions(visited, self.dim))
            chosen.append(self._whole(size + noise) if late else size)
        return chosen

    def _whole(self, sizes: Tensor) -> Tensor:
        return sizes.round().clamp(1, self.dim)

    def _learn(self, states: list[Tensor], sizes: list[Tensor], measured: Measurement) -> tuple[list[Tensor], float]:
        """Store each entity's transition, update both agents; the next states, and the mean of all q_n."""
        settings, following, raw = self.settings, [], evaluated(self.problem, measured)
        ratios = [quality_ratio(*each) for each in zip(raw, self.peaks, strict=True)]
        qualities = ratios if settings.reward == "ratio" else raw
        for side, state, size, ratio, quality in zip(self.sides, states, sizes, ratios, qualities, strict=True):
            actions = to_actions(size, self.dim)
            reward = paid_reward(quality, size, self.dim, settings.price, settings.free_dimensions)
            following.append(then := side.states(actions, ratio))
            side.remember(state, actions, reward, then)
            side.agent.update(side.replay)
        return following, float(torch.cat(ratios).nanmean())

    def _keep(self, measured: Measurement, quality: float) -> None:
        """M_c: of the plans that fit a budget the l of the highest mean q_n, for each budget (Eq. 15)."""
        self.smallest = min(self.smallest, measured.plan, key=lambda plan: plan.numbers)
        for budget, found in self.found.items():
            if measured.plan.numbers <= self.problem.numbers[budget]:
                plan = dataclasses.replace(measured.plan, precision=self.problem.precision[budget])
                found[plan] = quality, measured.quality
                best = heapq.nlargest(self.settings.finalists, found, key=found.__getitem__)
                self.found[budget] = {plan: found[plan] for plan in best}

    def finalists(self, budget: Budget) -> list[Candidate]:
        """M_c of a budget, the best first."""
        if found := self.found[budget]:
            return [Candidate(plan, quality) for plan, (_, quality) in found.items()]
        scaled = self.problem.project(self.smallest.sizes, budget)
        return [Candidate(scaled, self.problem.quality_of(scaled, self.fidelity))]
