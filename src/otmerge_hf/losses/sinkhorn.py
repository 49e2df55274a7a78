"""Sinkhorn divergence between the batch's two clouds of shared embeddings."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..transport import sinkhorn_divergence
from .convergence import noted
from .points import check_choice, check_clouds, check_positive, in_float32, unit
from .term import LossTerm


BACKENDS = ("native", "geomloss")


@in_float32
def sinkhorn_loss(
    context_embeds: torch.Tensor,
    query_embeds: torch.Tensor,
    epsilon: float = 0.05,
    normalize: bool = False,
    backend: str = "native",
) -> torch.Tensor:
    r"""Debiased Sinkhorn divergence of two clouds, whichever point belongs to whichever; in cost units.

    $$ S_\epsilon = OT_\epsilon(x, y) - \tfrac12 OT_\epsilon(x, x) - \tfrac12 OT_\epsilon(y, y),
       \quad c(x, y) = \tfrac12 \lVert x - y \rVert^2 $$

    Zero exactly when the clouds hold the same points: it matches distributions, not pairs. Add a paired or contrastive
    term to say which point belongs to which. Its gradient holds epsilon still.

    Args:
        context_embeds, query_embeds: (N, D) and (M, D).
        epsilon: Regularisation, as a fraction of the mean cost between the clouds.
        normalize: Put the points on the unit sphere first.
        backend: `"native"`: [`sinkhorn_divergence`], which stops on the error of the marginals.
            `"geomloss"`: `SamplesLoss("sinkhorn")` with scaling 0.9, which does not.

    Example:
        >>> x = torch.randn(16, 4)
        >>> abs(sinkhorn_loss(x, x.flip(0)).item()) < 1e-3  # the same points in another order
        True

    Source: Feydy et al. 2019, equation 3; checked against plans of POT's `sinkhorn`.
    """
    check_clouds(context_embeds, query_embeds)
    check_positive(epsilon, "epsilon")
    check_choice(backend, BACKENDS, "backend")
    x, y = (unit(context_embeds), unit(query_embeds)) if normalize else (context_embeds, query_embeds)
    if backend == "geomloss":
        return _geomloss_divergence(x, y, epsilon)
    return noted(sinkhorn_divergence(x, y, epsilon=epsilon)).value


def _geomloss_divergence(x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
    from geomloss import SamplesLoss

    # The divergence splits exactly into that of the centred clouds and the distance of the means; centring keeps
    # float32 accurate for distant clouds.
    shift = (x.mean(dim=0) - y.mean(dim=0)).square().sum() / 2
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    with torch.no_grad():
        mean_cost = (x.square().sum(dim=1).mean() + y.square().sum(dim=1).mean()) / 2 + shift
        diameter = (torch.cat([x, y]).amax(dim=0) - torch.cat([x, y]).amin(dim=0)).norm()
        if not torch.isfinite(mean_cost):
            raise ValueError("The clouds hold NaN or infinite values; check the embeddings.")
    if diameter == 0:  # two single points, repeated: nothing left to transport
        return shift + (x.sum() + y.sum()) * 0
    blur = float((epsilon * mean_cost).clamp(min=1e-12).sqrt())
    # geomloss turns gradients on when it is called under no_grad, and leaves them on
    with torch.set_grad_enabled(torch.is_grad_enabled()):
        loss = SamplesLoss("sinkhorn", p=2, blur=blur, scaling=0.9, diameter=float(diameter), backend="tensorized")
        return loss(x, y) + shift


@dataclass
class SinkhornTerm(LossTerm):
    """[`sinkhorn_loss`] of the shared embeddings, paired or not."""

    epsilon: float = 0.05
    normalize: bool = False
    backend: str = "native"
    name: ClassVar[str] = "sinkhorn"

    def __call__(self, outputs: Any) -> torch.Tensor:
        return sinkhorn_loss(outputs.context_embeds, outputs.query_embeds, self.epsilon, self.normalize, self.backend)

    def check(self, model: Any) -> None:
        check_choice(self.backend, BACKENDS, "backend")
