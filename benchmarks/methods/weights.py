"""Merging two encoders' weights, as it is done between copies of one architecture."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from ..tasks.task import NotApplicable


State = dict[str, torch.Tensor]


def require_same_architecture(first: nn.Module, second: nn.Module) -> None:
    """Refuse two encoders whose weights cannot be put on top of each other.

    Raises:
        NotApplicable: With the reason: another class, or the first tensor whose shape differs.

    Example:
        >>> require_same_architecture(nn.Linear(2, 3), nn.Linear(2, 3))
    """
    if type(first) is not type(second):
        raise NotApplicable(
            f"weights of a {type(first).__name__} and a {type(second).__name__} have no correspondence to average over"
        )
    ours, theirs = first.state_dict(), second.state_dict()
    for name in ours.keys() | theirs.keys():
        shapes = [tuple(state[name].shape) if name in state else None for state in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise NotApplicable(
                f"both are {type(first).__name__}s, but `{name}` is {shapes[0]} in one and {shapes[1]}"
            )


def average(states: list[State], importance: list[State] | None = None) -> State:
    r"""Average of weights, entry by entry, weighted by importance.

    $$\theta = \frac{\sum_m F_m \theta_m}{\sum_m F_m}$$

    Args:
        states: Weights of the models, same names and shapes.
        importance: F, non-negative, for some or all names; those it lacks are averaged plainly.

    Example:
        >>> states = [{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}]
        >>> average(states, [{"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}])
        {'w': tensor([3.])}

    Source: Matena and Raffel 2022, equation 3 (with F = 1: plain averaging).
    """
    merged = {}
    for name, first in states[0].items():
        if not first.is_floating_point():
            merged[name] = first.clone()
            continue
        values = torch.stack([state[name] for state in states])
        if importance is None or name not in importance[0]:
            merged[name] = values.mean(dim=0)
            continue
        # an entry that matters to no model falls back to the plain average
        weight = torch.stack([f[name] for f in importance]) + 1e-10
        merged[name] = (weight * values).sum(dim=0) / weight.sum(dim=0)
    return merged


def fisher(model: nn.Module, batches: Iterable[dict], output: Callable, seed: int = 0) -> State:
    r"""Diagonal Fisher information of each weight, of a Gaussian around the model's output.

    $$F = E_x E_{v \sim N(0, I)} \big(\nabla_\theta \langle v, h_\theta(x) \rangle\big)^2$$

    An encoder has no labels; a unit Gaussian around its output is the likelihood whose Fisher information needs none.

    Args:
        model: The encoder.
        batches: Keyword arguments of its forward, one input each.
        output: Takes the embedding (1, D) from what forward returns.
        seed: Of v.
    """
    generator = torch.Generator().manual_seed(seed)
    learned = {name: parameter.requires_grad_(True) for name, parameter in model.named_parameters()}
    total = {name: torch.zeros_like(parameter) for name, parameter in learned.items()}
    count = 0
    for batch in batches:
        embedding = output(model(**batch))
        probe = torch.randn(embedding.shape, generator=generator)
        gradients = torch.autograd.grad((probe * embedding).sum(), list(learned.values()), allow_unused=True)
        for name, gradient in zip(learned, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.square()
        count += 1
    return {name: value / max(count, 1) for name, value in total.items()}


def regmean(models: Sequence[nn.Module], batches: list[list[dict]], shrink: float = 0.9, ridge: float = 1e-4) -> State:
    r"""Weights of every linear layer that best repeat both models' outputs; all else is averaged.

    $$W^\top = \Big(\sum_m G_m\Big)^{-1} \sum_m G_m W_m^\top, \quad G_m = X_m^\top X_m$$

    with off-diagonal entries of G shrunk, and a ridge relative to its mean diagonal.

    Args:
        models: The encoders, of one architecture.
        batches: Per model, keyword arguments of its forward.
        shrink: Factor of the off-diagonal entries, in [0, 1].
        ridge: Relative to the mean diagonal of the summed G.

    Source: Jin et al. 2023 (RegMean), equations 2 and 3.
    """
    grams = [_grams(model, given) for model, given in zip(models, batches, strict=True)]
    states = [model.state_dict() for model in models]
    merged = average(states)
    for name in grams[0].keys() & grams[1].keys():
        shrunk = [g * shrink + torch.diag(torch.diagonal(g)) * (1 - shrink) for g in (gram[name] for gram in grams)]
        weights = [state[f"{name}.weight"].double().T for state in states]
        total = sum(shrunk[1:], shrunk[0])
        total = total + ridge * torch.diagonal(total).mean() * torch.eye(len(total), dtype=total.dtype)
        # the ridge pulls towards the plain average, not towards zero
        plain = merged[f"{name}.weight"].double().T
        right = sum((g @ (w - plain) for g, w in zip(shrunk, weights, strict=True)), torch.zeros_like(plain))
        solved = plain + torch.linalg.solve(total, right)
        merged[f"{name}.weight"] = solved.T.to(merged[f"{name}.weight"].dtype)
    return merged


@torch.no_grad()
def _grams(model: nn.Module, batches: Iterable[dict]) -> State:
    grams: State = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def hook(module: nn.Module, inputs: tuple, name: str = name) -> None:
                rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
                grams[name] = grams.get(name, 0) + rows.T @ rows

            handles.append(module.register_forward_pre_hook(hook))
    for batch in batches:
        model(**batch)
    for handle in handles:
        handle.remove()
    return grams
