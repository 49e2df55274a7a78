"""The straight way to the answers: what alignment made true, and both sides' means, by one linear map each."""

import torch
from torch import nn
from transformers import initialization as init

from .fusers import masked_mean, take
from .outputs_otmerge import EmbeddedSide
from .plans import entropic_plan, even_log_weights, token_cosines


EPSILON = 0.05  # of the plan that is measured here, in units of the cost 1 - cos


def cosine(query: EmbeddedSide, context: EmbeddedSide) -> torch.Tensor:
    """Cosine of the two shared embeddings, (B, 1)."""
    return nn.functional.cosine_similarity(query.embeds, context.embeds, dim=-1).unsqueeze(-1)


def late_interaction(query: EmbeddedSide, context: EmbeddedSide) -> torch.Tensor:
    """Mean over query tokens of the best cosine with a context token, (B, 1). Source: Khattab and Zaharia 2020."""
    cosines = token_cosines(query.shared, context.shared)
    if context.mask is not None:
        cosines = cosines.masked_fill(context.mask[:, None, :] == 0, -1.0)
    return masked_mean(cosines.amax(dim=-1, keepdim=True), query.mask)


def transport(query: EmbeddedSide, context: EmbeddedSide) -> torch.Tensor:
    """Cost 1 - cos of the entropic plan between tokens, and cosine of the query and what it is brought, (B, 2)."""
    cost = 1 - token_cosines(query.shared, context.shared)
    weights = [even_log_weights(side.shared, side.mask) for side in (query, context)]
    plan = entropic_plan(cost, *weights, EPSILON).to(cost.dtype)  # (B, S_q, S_c)
    brought = plan @ context.shared  # (B, S_q, D), barycentric projection times the tokens' weights
    similarity = nn.functional.cosine_similarity(query.shared, brought, dim=-1)
    return torch.stack([(plan * cost).sum(dim=(1, 2)), (plan.sum(dim=2) * similarity).sum(dim=1)], dim=-1)


class AnswerMap(nn.Linear):
    """Linear map to the logits, zero until fitted; of its own kind, for a part added to a saved path starts so too."""

    def init_weights(self) -> None:
        """Set the map to zero."""
        init.zeros_(self.weight)


class LinearPath(nn.Module):
    """Logits (B, num_labels) by one linear map of each part that `config.linear_path` names; zero until fitted.

    The parts are few numbers among the hundreds of the fused vector; with a way of their own they are not lost. What a
    part is, and its width:

    - `query`, `context`: the masked mean of the side's standardised features, D_side;
    - `cosine`, `late_interaction`, `transport`: numbers that say how well query and context agree in the shared
      space, 1, 1 and 2;
    - `answers`: the cosine of the context and each answer's own text in the shared space, num_labels, with one weight
      for all answers ([`training.grow_answers`] puts the texts in).
    """

    def __init__(self, config):
        super().__init__()
        widths = {"query": config.feature_dim("query"), "context": config.feature_dim("context"), "transport": 2}
        self.parts = tuple(config.linear_path)
        self.maps = nn.ModuleDict(
            {
                name: AnswerMap(widths.get(name, 1), config.num_labels, bias=False)
                for name in self.parts
                if name != "answers"
            }
        )
        self.bias = nn.Parameter(torch.zeros(config.num_labels))
        if "answers" in self.parts:
            self.answer_embeds = nn.Parameter(torch.zeros(config.num_labels, config.shared_dim))
            self.answer_scale = nn.Parameter(torch.zeros(1))

    def init_weights(self) -> None:
        """Set the bias and the answers' texts to zero; the maps do so themselves."""
        for parameter in self.parameters(recurse=False):
            init.zeros_(parameter)

    @torch.no_grad()
    def load(self, weights: dict[str, torch.Tensor], bias: torch.Tensor) -> None:
        """Take over fitted weights, (num_labels, width) a part or (1,) of `answers`; parts without any become zero."""
        self.bias.copy_(bias)
        for name in self.parts:
            own = self.answer_scale if name == "answers" else self.maps[name].weight
            own.copy_(weights.get(name, torch.zeros_like(own)))

    def measure(
        self,
        query: EmbeddedSide,
        context: EmbeddedSide,
        distinct: EmbeddedSide | None = None,
        rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Each part before its map, (B, width); `context` is `distinct` taken by `rows`, where rows share contexts."""
        numbers = {"cosine": cosine, "late_interaction": late_interaction, "transport": transport}
        sides = {"query": (query, None), "context": (context if distinct is None else distinct, rows)}
        measured = {}
        for name in self.parts:
            if name in sides:
                side, taken = sides[name]
                measured[name] = take(masked_mean(side.tokens, side.mask), taken)
            elif name == "answers":
                directions = [
                    nn.functional.normalize(vectors, dim=-1) for vectors in (context.embeds, self.answer_embeds)
                ]
                measured[name] = directions[0] @ directions[1].T
            else:
                measured[name] = numbers[name](query, context)
        return measured

    def combine(self, measured: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits (B, num_labels) of measured parts."""
        logits = self.bias.expand(next(iter(measured.values())).shape[0], -1)
        for name, part in measured.items():
            logits = logits + (self.answer_scale * part if name == "answers" else self.maps[name](part))
        return logits

    def forward(self, query: EmbeddedSide, context: EmbeddedSide, distinct=None, rows=None) -> torch.Tensor:
        """Logits (B, num_labels); arguments as of `measure`."""
        return self.combine(self.measure(query, context, distinct, rows))
