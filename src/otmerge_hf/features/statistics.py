"""Blocks of tokens -> mean and standard deviation of every feature, in one pass."""

from collections.abc import Iterable

import torch


Statistics = tuple[torch.Tensor, torch.Tensor]


def feature_statistics(blocks: Iterable[torch.Tensor]) -> Statistics:
    """Mean (D,) and population deviation (D,), float32, over the rows of all blocks (T_k, D), in float64.

    Block means and squared deviations are merged pairwise, so nothing cancels when the mean is large.

    Example:
        >>> feature_statistics([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0]])])
        (tensor([3.]), tensor([1.6330]))

    Source: Chan, Golub and LeVeque 1983, eq. 1.5; checked against `torch.std`.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        values = block.double()
        own_mean = values.mean(0)
        delta = own_mean - mean
        total = count + len(values)
        spread = (values - own_mean).square().sum(0)
        squares = squares + spread + delta.square() * (count * len(values) / total)
        mean = mean + delta * (len(values) / total)
        count = total
    return mean.float(), (squares / count).sqrt().float()
