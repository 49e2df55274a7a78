import numpy as np
import pytest
import torch

from otmerge_hf.model.modeling_otmerge import OTMergeOutput


@pytest.fixture
def clouds():
    """Two float64 clouds of different size, neither centred nor of equal spread."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    y = 0.7 * torch.randn(5, 3, generator=generator, dtype=torch.float64) + torch.tensor([0.5, -0.2, 0.3])
    return x, y


@pytest.fixture
def make_outputs():
    """Outputs as the model gives them, from random tokens with padding."""

    def make(rows=8, dim=4, seed=0, context=None, query=None, **fields):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator)

        return OTMergeOutput(
            context_embeds=draw(rows, dim) if context is None else context,
            query_embeds=draw(rows, dim) if query is None else query,
            context_tokens=draw(rows, 3, 6),
            query_tokens=draw(rows, 2, 5),
            context_mask=torch.tensor([[1, 1, 0]] * rows),
            logit_scale=torch.tensor(10.0),
            **fields,
        )

    return make


@pytest.fixture
def finite_difference():
    def gradient(function, array, step=1e-5):
        """Central differences of a NumPy function, one entry at a time."""
        result = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            moved = array.copy()
            moved[index] += step
            up = function(moved)
            moved[index] -= 2 * step
            result[index] = (up - function(moved)) / (2 * step)
        return result

    return gradient


@pytest.fixture
def entropic():
    """Reference solvers: POT's plans in float64, and values by the definition."""
    import ot

    class Entropic:
        @staticmethod
        def plan(cost, epsilon):
            rows, columns = cost.shape
            a, b = np.full(rows, 1 / rows), np.full(columns, 1 / columns)
            # the kernel form: in float64 and with these costs safe, and a hundred times faster than the log form
            return ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn", stopThr=1e-9, numItermax=20_000)

        @staticmethod
        def kl(plan):
            kept = plan > 0
            return float((plan[kept] * np.log(plan[kept] * plan.size)).sum())

        @classmethod
        def value(cls, cost, epsilon):
            plan = cls.plan(cost, epsilon)
            return float((plan * cost).sum()) + epsilon * cls.kl(plan)

        @classmethod
        def divergence(cls, x, y, epsilon):
            def half(u, v):
                return ((u[:, None] - v[None]) ** 2).sum(-1) / 2

            own = cls.value(half(x, x), epsilon) + cls.value(half(y, y), epsilon)
            return cls.value(half(x, y), epsilon) - own / 2

    return Entropic
