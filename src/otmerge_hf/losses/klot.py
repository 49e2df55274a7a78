"""The entropic plan of the batch, pulled towards the plan that a teacher would make."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from ..transport import sinkhorn_from_cost
from .convergence import noted
from .points import PLAN_TOL, check_positive, cosines, in_float32, token_means
from .term import LossTerm


@in_float32
def klot_loss(
    similarity: torch.Tensor, teacher_similarity: torch.Tensor, epsilon: float = 0.05, teacher_epsilon: float = 0.01
) -> torch.Tensor:
    r"""Divergence of the batch's entropic plan from a teacher's; in nats.

    $$ P = \arg\max_{P \in U(a, b)} \langle P, K \rangle - \epsilon \operatorname{KL}(P \mid a b^\top), \quad
       L = \operatorname{KL}(P^* \mid P), \quad \nabla_K L = \frac{P - P^*}{\epsilon} $$

    P* solves the same problem for the teacher's similarities K* and epsilon*; weights a, b are uniform, with sum 1
    (with rows of mass 1, as the paper has it, the loss is N times as much). The
    gradient's denominator is the student's epsilon: equation 13 of the paper prints epsilon*, its code and finite
    differences say epsilon. The term to prefer with 1k to 10k pairs and many unpaired points: the teacher is fitted
    on the pairs in closed form and carries them to the unpaired. Blind to shifts of whole rows or columns of K, so
    never use it alone. Not minimal on collapsed embeddings, though its gradient vanishes exactly there.

    Args:
        similarity: K, (N, M), cosines of the shared embeddings of N contexts and M queries.
        teacher_similarity: K*, (N, M), cosines under the teacher, or any precomputed similarity; no gradient.
        epsilon: In units of the similarity (absolute).
        teacher_epsilon: epsilon*, the same.

    Example:
        >>> k = torch.eye(3)
        >>> abs(klot_loss(k, k, 0.05, 0.05).item()) < 1e-3
        True

    Source: SOTAlign (arXiv 2602.23353), equation 13 with the erratum above; checked against POT's `sinkhorn`.
    """
    if similarity.shape != teacher_similarity.shape or similarity.dim() != 2:
        raise ValueError(
            f"`similarity` {tuple(similarity.shape)} and `teacher_similarity` {tuple(teacher_similarity.shape)} must "
            "be two matrices of one shape."
        )
    check_positive(epsilon, "epsilon")
    check_positive(teacher_epsilon, "teacher_epsilon")
    # log P is linear in K and the potentials, so that the divergence is a Fenchel-Young gap: the value of the
    # optimum minus what the teacher's plan reaches, in units of epsilon. The envelope theorem gives the gradient.
    options: dict[str, Any] = {"epsilon_scale": "absolute", "tol": PLAN_TOL}
    target = noted(sinkhorn_from_cost(-teacher_similarity.detach(), epsilon=teacher_epsilon, **options)).plan()
    least = noted(sinkhorn_from_cost(-similarity, epsilon=epsilon, **options)).value
    information = (torch.special.xlogy(target, target * target.numel())).sum()  # KL(P* | a b^T)
    return information - ((target * similarity).sum() + least) / epsilon


class Teacher(NamedTuple):
    """Affine maps of both sides' mean tokens, as the adapters receive them, into the teacher's space.

    Shapes: `context_weight` (T, D_c), `context_bias` (T,), `query_weight` (T, D_q), `query_bias` (T,), T the teacher's
    width.
    """

    context_weight: torch.Tensor
    context_bias: torch.Tensor
    query_weight: torch.Tensor
    query_bias: torch.Tensor

    @in_float32
    def similarity(self, context: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Cosines (N, M) of means (N, D_c) and (M, D_q) under the teacher."""
        context_weight, context_bias, query_weight, query_bias = (tensor.to(context) for tensor in self)
        return cosines(context @ context_weight.T + context_bias, query @ query_weight.T + query_bias)


@dataclass
class KLOTTerm(LossTerm):
    """[`klot_loss`] of all rows, paired or not, under a [`Teacher`].

    Set `teacher` before the first call; it is no field, for it is tensors.
    """

    epsilon: float = 0.05
    teacher_epsilon: float = 0.01
    name: ClassVar[str] = "klot"
    needs_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.teacher: Teacher | None = None

    def __call__(self, outputs: Any) -> torch.Tensor:
        if self.teacher is None:
            raise ValueError("The klot term has no teacher: set `term.teacher`, or use KLOTLossCallback(teacher=...).")
        similarity = cosines(outputs.context_embeds, outputs.query_embeds)
        wanted = self.teacher.similarity(*token_means(outputs))
        return klot_loss(similarity, wanted, self.epsilon, self.teacher_epsilon)
