"""Maximum mean discrepancy between the batch's two clouds of shared embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .points import check_clouds, check_positive, in_float32, squared_distances
from .term import LossTerm


BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


@in_float32
def mmd_loss(
    context_embeds: torch.Tensor,
    query_embeds: torch.Tensor,
    bandwidths: Sequence[float] = BANDWIDTHS,
    unbiased: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    r"""Squared maximum mean discrepancy under a mean of Gaussian kernels; in [0, 2] when biased.

    $$ k(x, y) = \frac1H \sum_h \exp\Big(-\frac{\lVert x - y \rVert^2}{h\, s}\Big), \quad
       L = \overline{k(x, x')} + \overline{k(y, y')} - 2\, \overline{k(x, y)} $$

    Matches distributions as `sinkhorn` does, for one matrix of kernels and no iteration; its gradient fades once the
    clouds are further apart than the widest kernel. Zero for constant maps: use it with a term that spreads.

    Args:
        context_embeds, query_embeds: (N, D) and (M, D).
        bandwidths: h, multiples of the scale.
        unbiased: False: means over all N^2 and M^2 combinations, never negative, too large by O(1/N).
            True: without each point's kernel with itself; right on average, may be negative, needs two points a side.
        scale: s, squared units of the shared space; None takes the mean squared distance of two different points of
            both clouds together, which the gradient holds still.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> round(mmd_loss(x, x + 100.0, bandwidths=[1.0], scale=1.0).item(), 4)  # 1 + exp(-1)
        1.3679

    Source: Gretton et al. 2012, equations 3 (unbiased) and 5 (biased); several bandwidths around the mean distance:
    Long et al. 2015; as a loss beside transport: Li et al. 2025 (AlignMamba).
    """
    check_clouds(context_embeds, query_embeds)
    if not bandwidths or not all(h > 0 for h in bandwidths):
        raise ValueError(f"`bandwidths` is {list(bandwidths)}; expected positive multiples of the scale.")
    points = torch.cat([context_embeds, query_embeds])
    first, count = len(context_embeds), len(points)
    if unbiased and min(first, count - first) < 2:
        raise ValueError(f"`unbiased=True` needs two points a side, got {first} and {count - first}.")
    distances = squared_distances(points, points)
    if scale is None:
        # collapsed clouds have no scale: any above their rounding will do, all their kernels are 1
        rounding = points.detach().square().sum(dim=1).max() * torch.finfo(points.dtype).eps
        width = (distances.detach().sum() / (count * (count - 1))).clamp(min=1e-30).maximum(rounding)
    else:
        check_positive(scale, "scale")
        width = distances.new_tensor(scale)
    kernel = torch.stack([torch.exp(-distances / (h * width)) for h in bandwidths]).mean(dim=0)
    within_context, within_query = kernel[:first, :first], kernel[first:, first:]
    return _mean(within_context, unbiased) + _mean(within_query, unbiased) - 2 * kernel[:first, first:].mean()


def _mean(kernel: torch.Tensor, unbiased: bool) -> torch.Tensor:
    if not unbiased:
        return kernel.mean()
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


@dataclass
class MMDTerm(LossTerm):
    """[`mmd_loss`] of the shared embeddings, paired or not."""

    bandwidths: Sequence[float] = BANDWIDTHS
    unbiased: bool = False
    name: ClassVar[str] = "mmd"

    def __call__(self, outputs: Any) -> torch.Tensor:
        return mmd_loss(outputs.context_embeds, outputs.query_embeds, self.bandwidths, self.unbiased)
