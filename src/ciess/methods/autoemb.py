"""AutoEmb: a small network weighs candidate sizes by popularity, learned on validation.

Zhao et al., AutoEmb: Automated Embedding Dimensionality Search in Streaming Recommendations, ICDM 2021
(arXiv 2002.11252).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import batch_norm, relu

from ciess.checks import Checked, NotNegative, Positive, Seed
from ciess.methods.problem import Problem, SearchResult
from ciess.methods.shared.joint import Learner
from ciess.models.base import USUAL_SCALE, normal_table, xavier
from ciess.tables.plan import SizePlan
from ciess.train.checkpoint import Part
from ciess.train.fit import Descent

_SMALLEST = 1e-6
"""The least deviation of popularity that it is divided by."""


@dataclass(frozen=True)
class AutoEmb(Checked):
    """Every row has an embedding of each candidate size; what the model sees is their sum, weighed by a controller.

    Each candidate is transformed to full width, normalised over the batch and bounded by tanh (Sec. 2.2); a network for
    users and one for items make the weights, a softmax, from popularity (Sec. 2.3). Steps take turns: embeddings
    descend on train, controllers on validation (Sec. 2.4, first order). At the end a row's size is the candidate of
    the largest weight.

    It cannot be told a budget: `search` measures the sizes that it ends with (`published` in the trace), and scales
    them onto each budget. Adapted to users and items of any backbone: the sum takes the place of its tables, BPR is the
    loss, and the batch that is normalised over is all rows. Departures:

    - Sizes are chosen once, not for each segment of a stream: popularity is the train interactions' logarithm, and the
      controllers get no other context.
    - The paper weighs candidates softly and goes on with all of them, which saves no memory; here one is kept.
    - A gain, learned for each side, scales what is normalised, so that it starts as the backbone's own tables do.
    - Controllers start with equal weights.

    Attributes:
        candidates: sizes; those above the full one count as it.
        hidden: numbers of a controller's hidden layer.
        controller_rate: learning rate of controllers, in times the recipe's.
        steps: of training; None for all of the backbone's own recipe.
        seed: of everything random.
    """

    name: ClassVar[str] = "autoemb"

    candidates: tuple[Positive, ...] = (2, 16, 128)
    hidden: Positive = 32
    controller_rate: NotNegative = 0.1
    steps: Positive | None = None
    seed: Seed = 0

    def search(self, problem: Problem) -> SearchResult:
        """Train once; scale the sizes that come out onto every budget."""
        result = SearchResult(best={})
        result.measure_scaled(problem, SizePlan.from_sizes(self.sizes(problem), problem.shape))
        return result

    def sizes(self, problem: Problem) -> NDArray[np.int64]:
        """(n_users + n_items,) candidates of the largest weight."""
        learner, dim = Learner(problem, "new", self.seed, self.steps), problem.shape.dim
        generator = torch.Generator().manual_seed(self.seed)
        sizes = sorted({min(size, dim) for size in self.candidates})
        sides = [Mixture(popularity, sizes, dim, self.hidden, generator) for popularity in problem.popularity]
        embeddings = [p for side in sides for p in side.embeddings()]
        controllers = [p for side in sides for p in side.controller()]
        learner.join(embeddings)
        descent = Descent(controllers, [self.controller_rate] * len(controllers), learner.training)
        last = learner.training.steps
        parts: dict[str, Part] = {f"controller {at}": each for at, each in enumerate(controllers)}
        parts |= {"controllers": descent.adam, "unseen": learner.unseen.generator}
        for step in learner.steps(parts):
            descent(step, learner.valid_loss(*(side.mixed() for side in sides)))
            learner.learn(step, learner.loss(*(side.mixed() for side in sides)))
            problem.progress("autoemb", step, last)
        chosen = torch.cat([side.weights().argmax(1) for side in sides])
        return np.take(sizes, chosen.numpy())


class Mixture(nn.Module):
    """One side's embeddings of every candidate size, and the controller that weighs them.

    Args:
        popularity: (n,) of the rows.
        sizes: the candidates.
        dim: full width.
        hidden: numbers of the controller's hidden layer.
        generator: of what is random.
    """

    known: Tensor

    def __init__(
        self, popularity: NDArray[np.int64], sizes: list[int], dim: int, hidden: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.tables = nn.ParameterList(normal_table(len(popularity), size, generator) for size in sizes)
        self.transforms = nn.ParameterList(nn.Parameter(xavier(dim, size, generator)) for size in sizes)
        self.gain = nn.Parameter(torch.tensor(USUAL_SCALE))
        self.hidden = nn.Parameter(xavier(hidden, 2, generator))
        self.output = nn.Parameter(torch.zeros(len(sizes), hidden))
        logarithms = torch.from_numpy(np.log1p(popularity)).float()
        scaled = (logarithms - logarithms.mean()) / logarithms.std().clamp(min=_SMALLEST)
        self.register_buffer("known", torch.stack([scaled, torch.ones_like(scaled)], dim=1))

    def embeddings(self) -> list[nn.Parameter]:
        """What descends on train."""
        return [*self.tables, *self.transforms, self.gain]

    def controller(self) -> list[nn.Parameter]:
        """What descends on validation."""
        return [self.hidden, self.output]

    def weights(self) -> Tensor:
        """(n, candidates) what each row's candidates weigh; each row's sum is 1."""
        return (relu(self.known @ self.hidden.T) @ self.output.T).softmax(1)

    def mixed(self) -> Tensor:
        """(n, dim) the sum of the candidates, each transformed, normalised and bounded (Sec. 2.2)."""
        full = [
            batch_norm(table @ transform.T, None, None, training=True).tanh()
            for table, transform in zip(self.tables, self.transforms, strict=True)
        ]
        weights = self.weights().unbind(1)
        return self.gain * torch.stack([w[:, None] * each for w, each in zip(weights, full, strict=True)]).sum(0)
