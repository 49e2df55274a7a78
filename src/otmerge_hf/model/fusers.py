"""Cross-modal blocks: shared tokens of both sides in, one fused vector out."""

import math
from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging

from .plans import entropic_plan, even_log_weights, token_cosines


logger = logging.get_logger(__name__)


class Fused(NamedTuple):
    """What a fuser returns.

    Shapes: B batch, S_q, S_c tokens, D shared width.

    Attributes:
        vector: (B, D), both sides in one.
        hidden_states: Query tokens (B, S_q, D): those that came in, and those after each layer.
        attentions: Query-to-context weights (B, heads, S_q, S_c) of each layer; None where it computes none.
    """

    vector: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...]
    attentions: tuple[torch.Tensor | None, ...] = ()


def masked_mean(tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean of the real tokens: (B, S, D), mask (B, S) or None -> (B, D)."""
    if mask is None:
        return tokens.mean(dim=1)
    weight = mask.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def take(values: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    """Rows (B,) of values (U, ...), each as often as it is named: (B, ...). None: the values as they are."""
    return values if rows is None else values.index_select(0, rows)


def sine_cosine_positions(
    num_tokens: int, dim: int, like: torch.Tensor, grid=None, kind: str = "grid"
) -> torch.Tensor:
    """Fixed position codes, (S, D): sines and cosines of the index, or of row and column of a token grid.

    With `kind="grid"` the grid is the largest square that fits, and tokens before it (class and register tokens) get
    zeros; `grid` (height, width) states it for images that are not square. Source: Vaswani et al. 2017, section 3.5;
    for two dimensions Dosovitskiy et al. 2021, appendix D.4.

    Example:
        >>> sine_cosine_positions(1 + 2 * 3, 8, torch.zeros(1), grid=(2, 3)).shape
        torch.Size([7, 8])
    """
    if kind == "sequence":
        return _sine_cosine(torch.arange(num_tokens, device=like.device), dim).to(like.dtype)
    height, width = grid or (math.isqrt(num_tokens), math.isqrt(num_tokens))
    leading = num_tokens - height * width
    if leading < 0:
        raise ValueError(f"`context_grid` {height} x {width} has more cells than the {num_tokens} context tokens.")
    rows = torch.arange(height, device=like.device).repeat_interleave(width)
    columns = torch.arange(width, device=like.device).repeat(height)
    codes = torch.cat([_sine_cosine(rows, dim // 2), _sine_cosine(columns, dim // 2)], dim=-1)
    return nn.functional.pad(codes, (0, 0, leading, 0)).to(like.dtype)


def image_codes(images: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Fixed codes of an image's place in its row, (n, D): what tells the left one from the right one.

    They count from the first image, whose code is zero: an image alone has the positions that it always had.

    Example:
        >>> image_codes(2, 8, torch.zeros(1)).abs().sum(dim=1).tolist()[0]
        0.0
    """
    codes = _sine_cosine(torch.arange(images, device=like.device), dim)
    return (codes - codes[:1]).to(like.dtype)


def _sine_cosine(index: torch.Tensor, dim: int) -> torch.Tensor:
    frequency = torch.exp(torch.arange(0, dim, 2, device=index.device) * (-math.log(10_000.0) / dim))
    angle = index.float().unsqueeze(-1) * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ContextPositions(nn.Module):
    """Adds fixed position codes, times a learned scale per dimension, to the context tokens."""

    def __init__(self, config, of_image: bool):
        super().__init__()
        self.kind, self.grid = config.context_positions, config.context_grid
        if self.kind == "auto":
            # positions would move the tokens whose distances the plan reads
            self.kind = (
                "none"
                if config.fuser_type == "transport"
                else "grid"
                if of_image or self.grid is not None
                else "sequence"
            )
        if self.kind == "grid" and self.grid is None and not of_image:
            # a square guessed from the length would change with the padding
            raise ValueError('`context_positions="grid"` needs `context_grid` for a context that is no image.')
        self.scale = nn.Parameter(torch.ones(config.shared_dim)) if self.kind != "none" else None

    def init_weights(self) -> None:
        """Start with the codes as they are."""
        if self.scale is not None:
            init.ones_(self.scale)

    def forward(self, tokens: torch.Tensor, pixel_values: torch.Tensor | None = None, images: int = 1) -> torch.Tensor:
        """Add positions to tokens (B, S, D), or to those of some images a row, (B, images * S, D).

        `pixel_values` (B, C, H, W) or (B, images, C, H, W), where known, are checked to be square.
        """
        if self.scale is None:
            if images > 1:
                logger.warning_once(
                    "The merge has no positions (`context_positions`): which of a row's images is the first is lost."
                )
            return tokens
        num_tokens, dim = tokens.shape[1:]
        num_tokens = num_tokens // images if images > 1 else num_tokens
        if self.kind == "grid" and self.grid is None and pixel_values is not None and num_tokens > 1:
            height, width = pixel_values.shape[-2:]
            if height != width:
                raise ValueError(
                    f"`pixel_values` are {height} x {width}, and `context_grid` does not say how many tokens that is; "
                    "set it to [height, width] in tokens, or make the images square."
                )
        codes = sine_cosine_positions(num_tokens, dim, tokens, self.grid, self.kind)
        if images > 1:
            codes = (image_codes(images, dim, tokens)[:, None] + codes).flatten(0, 1)  # (images * S, D)
        return tokens + codes * self.scale


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q k^T * scaling + mask) v, with the weights; (B, heads, S, head_dim) in, (B, S, heads, head_dim) out."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class OTMergeAttention(nn.Module):
    """Multi-head attention from one token sequence to another, through transformers' attention interface."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head_dim = config.shared_dim // config.fuser_num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.dropout = config.fuser_dropout
        self.q_proj = nn.Linear(config.shared_dim, config.shared_dim)
        self.k_proj = nn.Linear(config.shared_dim, config.shared_dim)
        self.v_proj = nn.Linear(config.shared_dim, config.shared_dim)
        self.out_proj = nn.Linear(config.shared_dim, config.shared_dim)

    def forward(
        self,
        tokens: torch.Tensor,
        source: torch.Tensor,
        source_mask: torch.Tensor | None,
        rows: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens (B, S, D) attend to source (B, T, D): attended (B, S, D) and weights (B, heads, S, T) if eager.

        With `rows` (B,), the source (U, T, D) is shared: tokens of row i attend to that of `rows[i]`.
        """
        query, key, value = (
            projection(states).reshape(*states.shape[:-1], -1, self.head_dim).transpose(1, 2)
            for projection, states in ((self.q_proj, tokens), (self.k_proj, source), (self.v_proj, source))
        )
        key, value = take(key, rows), take(value, rows)
        # all that the mask needs; not `len`, which fixes the batch of an exported model
        shape = source if rows is None else source[:1].expand(rows.shape[0], -1, -1)
        mask = create_bidirectional_mask(self.config, tokens, source_mask, encoder_hidden_states=shape)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout if self.training else 0.0
        attended, weights = attend(self, query, key, value, mask, dropout=dropout, scaling=self.scaling)
        return self.out_proj(attended.flatten(2)), weights


class CrossAttentionLayer(nn.Module):
    """z_q <- LayerNorm(z_q + MHA(z_q, z_c, z_c))."""

    def __init__(self, config):
        super().__init__()
        self.attention = OTMergeAttention(config)
        self.norm = nn.LayerNorm(config.shared_dim)
        self.dropout = nn.Dropout(config.fuser_dropout)

    def forward(self, tokens, source, source_mask, rows=None):
        attended, weights = self.attention(tokens, source, source_mask, rows)
        return self.norm(tokens + self.dropout(attended)), weights


class FeedForwardLayer(nn.Module):
    """z <- LayerNorm(z + MLP(z)), four times as wide inside."""

    def __init__(self, config):
        super().__init__()
        dim = config.shared_dim
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.fuser_dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(tokens + self.dropout(self.mlp(tokens)))


class CrossAttentionFuser(nn.Module):
    """The query attends to the context, layer after layer; the fused vector is the query tokens' masked mean."""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.fuser_num_layers))

    def forward(self, query, context, query_mask=None, context_mask=None, rows=None):
        hidden_states, attentions = (query,), ()
        for layer in self.layers:
            query, weights = layer(query, context, context_mask, rows)
            hidden_states, attentions = (*hidden_states, query), (*attentions, weights)
        return Fused(masked_mean(query, query_mask), hidden_states, attentions)


class BidirectionalFuser(nn.Module):
    """Each side attends to the other's tokens of the layer before; both masked means are joined by a linear map."""

    def __init__(self, config):
        super().__init__()
        self.to_context = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.fuser_num_layers))
        self.to_query = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.fuser_num_layers))
        self.join = nn.Linear(2 * config.shared_dim, config.shared_dim)

    def forward(self, query, context, query_mask=None, context_mask=None, rows=None):
        context = take(context, rows)
        hidden_states, attentions = (query,), ()
        for to_context, to_query in zip(self.to_context, self.to_query, strict=True):
            attended, weights = to_context(query, context, context_mask)
            context, _ = to_query(context, query, query_mask)
            query = attended
            hidden_states, attentions = (*hidden_states, query), (*attentions, weights)
        joined = torch.cat([masked_mean(query, query_mask), masked_mean(context, context_mask)], dim=-1)
        return Fused(self.join(joined), hidden_states, attentions)


class SelfCrossBlockFuser(nn.Module):
    """Blocks of self-attention among the query tokens, cross-attention to the context, and an MLP."""

    def __init__(self, config):
        super().__init__()
        self.self_attention = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.fuser_num_layers))
        self.cross_attention = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.fuser_num_layers))
        self.feed_forward = nn.ModuleList(FeedForwardLayer(config) for _ in range(config.fuser_num_layers))

    def forward(self, query, context, query_mask=None, context_mask=None, rows=None):
        hidden_states, attentions = (query,), ()
        for attend_self, attend_context, feed_forward in zip(
            self.self_attention, self.cross_attention, self.feed_forward, strict=True
        ):
            query, _ = attend_self(query, query, query_mask)
            query, weights = attend_context(query, context, context_mask, rows)
            query = feed_forward(query)
            hidden_states, attentions = (*hidden_states, query), (*attentions, weights)
        return Fused(masked_mean(query, query_mask), hidden_states, attentions)


class ConcatFuser(nn.Module):
    """Both masked means side by side, through one hidden layer; no attention."""

    def __init__(self, config):
        super().__init__()
        dim = config.shared_dim
        self.join = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Dropout(config.fuser_dropout))

    def forward(self, query, context, query_mask=None, context_mask=None, rows=None):
        context = take(context, rows)
        joined = torch.cat([masked_mean(query, query_mask), masked_mean(context, context_mask)], dim=-1)
        return Fused(self.join(joined), (query,))


class AverageFuser(nn.Module):
    """The average of both masked means; no parameters, no attention."""

    def __init__(self, config):
        super().__init__()

    def forward(self, query, context, query_mask=None, context_mask=None, rows=None):
        context = take(context, rows)
        return Fused((masked_mean(query, query_mask) + masked_mean(context, context_mask)) / 2, (query,))


class TransportFuser(nn.Module):
    """The query takes what an entropic transport plan brings from the context; no parameter but a temperature.

    z = LayerNorm(mean_i z_i + sum_ij P_ij c_j) without learned scale, P the plan of cost 1 - cos between the shared
    tokens, their marginals even: it reads what alignment made near. Mass may stay behind at the price `SLACK`, as that
    of function words that lie near nothing. Source: Cuturi 2013; Chizat et al. 2018 for the slack.
    """

    ITERATIONS, SLACK = 20, 1.0

    def __init__(self, config):
        super().__init__()
        self.log_epsilon = nn.Parameter(torch.zeros(1))

    def init_weights(self) -> None:
        """Start at epsilon = 0.05, in units of the cost."""
        init.constant_(self.log_epsilon, math.log(0.05))

    def forward(self, query, context, query_mask=None, context_mask=None, rows=None):
        context = take(context, rows)
        cost = 1 - token_cosines(query, context)  # (B, S_q, S_c)
        weights = [even_log_weights(*side) for side in ((query, query_mask), (context, context_mask))]
        plan = entropic_plan(cost, *weights, self.log_epsilon.exp(), self.ITERATIONS, self.SLACK).to(query.dtype)
        brought = plan.sum(dim=1, keepdim=True) @ context  # (B, 1, D)
        vector = nn.functional.layer_norm(masked_mean(query, query_mask) + brought[:, 0], (int(query.shape[-1]),))
        return Fused(vector, (query,), (plan.unsqueeze(1),))


def build_fuser(config) -> nn.Module:
    """Make the fuser that `config.fuser_type` names.

    All are called as `fuser(query (B, S_q, D), context (B, S_c, D), query_mask (B, S_q), context_mask (B, S_c))` and
    return a [`Fused`]. With `rows` (B,) as the last argument the context's tokens are (U, S_c, D), of the distinct
    contexts; its mask is (B, S_c) all the same.

    Example:
        >>> from types import SimpleNamespace
        >>> fuser = build_fuser(SimpleNamespace(fuser_type="average"))
        >>> fused = fuser(torch.ones(2, 5, 8), torch.zeros(2, 9, 8))
        >>> fused.vector.shape, fused.vector.mean().item(), fused.attentions
        (torch.Size([2, 8]), 0.5, ())
    """
    return {
        "cross_attention": CrossAttentionFuser,
        "bidirectional": BidirectionalFuser,
        "self_cross_block": SelfCrossBlockFuser,
        "concat": ConcatFuser,
        "average": AverageFuser,
        "transport": TransportFuser,
    }[config.fuser_type](config)
