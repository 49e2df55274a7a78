"""Retrieval quality: context and query embeddings and who belongs to whom in, numbers out.

Every function raises ValueError if the embeddings or pairs are malformed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .neighbours import BLOCK_ROWS, Similarity, block_scores, check_similarity, check_vectors, normalise


_SHARED_SCORES = 2**23  # as many both directions share: 32 MiB in float32, about three times that at the peak


class Ranking(NamedTuple):
    """How one direction of a search went: one entry per searching row that has a match.

    Attributes:
        rows: Searching rows, (R,), long.
        rank: Rank of the best match, (R,), long, 1 is best; candidates that tie with it count as better.
        average_precision: (R,), in [0, 1].
        closer: Share of other candidates closer than the match, averaged over its matches, (R,), in [0, 1];
            ties count one half.
    """

    rows: Tensor
    rank: Tensor
    average_precision: Tensor
    closer: Tensor


def check_pairs(pairs: object, n_context: int, n_query: int) -> Tensor:
    """Return `pairs` of (context row, query row) as (P, 2) long, sorted, each once; None pairs row i with row i."""
    if pairs is None:
        if n_context != n_query:
            sizes = f"context has {n_context} rows and query {n_query}"
            raise ValueError(f"pairs is None, which pairs rows one to one, but {sizes}; pass pairs as (P, 2) indices")
        return torch.arange(n_context)[:, None].expand(-1, 2)
    index = torch.as_tensor(pairs)
    if index.ndim != 2 or index.shape[1] != 2:
        raise ValueError(f"pairs must be (P, 2): context row, query row; got shape {tuple(index.shape)}")
    if len(index) == 0:
        raise ValueError("pairs is empty")
    if index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"pairs must hold integers, got {index.dtype}")
    for side, size, rows in zip(("context", "query"), (n_context, n_query), index.long().T, strict=True):
        wrong = rows[(rows < 0) | (rows >= size)]
        if len(wrong):
            raise ValueError(f"pairs names {side} row {int(wrong[0])}, but {side} has rows 0 to {size - 1}")
    return torch.unique(index.long(), dim=0)


def pairs_from_groups(context_groups: Tensor, query_groups: Tensor) -> Tensor:
    """List every (context row, query row) whose group ids (N,) and (M,) agree: several captions of one image, say.

    Returns:
        Pairs, (P, 2), long; at least one, else ValueError.

    Example:
        >>> pairs_from_groups(torch.tensor([7, 8]), torch.tensor([7, 7, 8])).tolist()
        [[0, 0], [0, 1], [1, 2]]
    """
    context, query = (torch.as_tensor(groups).contiguous() for groups in (context_groups, query_groups))
    for name, groups in (("context_groups", context), ("query_groups", query)):
        if groups.ndim != 1:
            raise ValueError(f"{name} must be (rows,), got shape {tuple(groups.shape)}")
    ordered, order = query.sort(stable=True)
    first = torch.searchsorted(ordered, context)
    count = torch.searchsorted(ordered, context, right=True) - first
    if int(count.sum()) == 0:
        raise ValueError("context_groups and query_groups have no group in common")
    rows = torch.repeat_interleave(torch.arange(len(context)), count)
    within = torch.arange(len(rows)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    return torch.stack([rows, order[first[rows] + within]], dim=1)


def rank_matches(
    searching: Tensor, candidates: Tensor, pairs: Tensor, *, similarity: Similarity = "cosine"
) -> Ranking:
    r"""Rank every row's matches among all candidates, exactly, in blocks of rows.

    $$ AP_i = \frac{1}{|M_i|} \sum_{j \in M_i}
       \frac{|\{m \in M_i: s_{im} \ge s_{ij}\}|}{|\{c: s_{ic} \ge s_{ij}\}|} $$

    Args:
        searching, candidates: Vectors, (N, D) and (M, D). Candidates without a pair stay in as distractors.
        pairs: Matches, (P, 2): searching row, candidate row.
        similarity: `"cosine"` or `"euclidean"`.

    Example:
        >>> rank_matches(torch.eye(2), torch.eye(2), torch.tensor([[0, 0], [1, 0]])).rank
        tensor([1, 2])

    Source: average precision as in scikit-learn's `average_precision_score`, and checked against it.
    """
    check_similarity(similarity)
    searching = check_vectors("searching", searching)
    candidates = check_vectors("candidates", candidates, dim=searching.shape[1])
    pairs = check_pairs(pairs, len(searching), len(candidates)).to(searching.device)
    if similarity == "cosine":
        searching, candidates = normalise(searching), normalise(candidates)
    return _rank(lambda rows: block_scores(searching[rows], candidates, similarity), len(searching), pairs)


def _rank(scores: Callable[[slice], Tensor], count: int, pairs: Tensor) -> Ranking:
    parts = []
    for start in range(0, count, BLOCK_ROWS):
        own = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < start + BLOCK_ROWS)]
        if len(own):
            parts.append(_rank_block(scores(slice(start, start + BLOCK_ROWS)), own, start))
    return Ranking(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def _rank_block(scores: Tensor, pairs: Tensor, offset: int) -> Ranking:
    rows, compact, matches = torch.unique(pairs[:, 0] - offset, return_inverse=True, return_counts=True)
    scores = scores[rows]  # (R, M): rows that nobody matches need no ranking
    wanted = scores[compact, pairs[:, 1]]  # (P,)
    at_least, above = torch.empty_like(compact), torch.empty_like(compact)
    for start in range(0, len(pairs), BLOCK_ROWS):  # (P, M) booleans would not fit for many captions
        part = slice(start, start + BLOCK_ROWS)
        own = scores[compact[part]]
        # int32: booleans summed to int64 take over three times as long
        at_least[part] = (own >= wanted[part, None]).sum(1, dtype=torch.int32)
        above[part] = (own > wanted[part, None]).sum(1, dtype=torch.int32)
    # The same two counts among the row's own matches: compare pairs of one row with each other.
    slot = torch.arange(len(pairs), device=scores.device)
    slot -= torch.repeat_interleave(matches.cumsum(0) - matches, matches)
    own = scores.new_full((len(rows), int(matches.max())), -torch.inf)
    own[compact, slot] = wanted
    own_at_least = (own[compact] >= wanted[:, None]).sum(1)
    own_above = (own[compact] > wanted[:, None]).sum(1)
    ties = (at_least - above) - (own_at_least - own_above)  # other candidates with the same score
    negatives = (scores.shape[1] - matches)[compact].clamp_min(1)
    closer = ((above - own_above) + 0.5 * ties.double()) / negatives

    def by_row(value: Tensor, how: str) -> Tensor:
        return value.new_zeros(len(rows)).scatter_reduce(0, compact, value, how, include_self=False)

    rank = by_row(at_least - own_at_least + 1, "amin")
    precision = by_row(own_at_least.double() / at_least, "mean")
    return Ranking(rows + offset, rank, precision, by_row(closer, "mean"))


def recall_at_k(ranking: Ranking, k: int) -> float:
    """Share of searching rows, in [0, 1], whose best match is among the first k, at least 1.

    Example:
        >>> recall_at_k(rank_matches(torch.eye(2), torch.eye(2), torch.tensor([[0, 0], [1, 0]])), 1)
        0.5
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return float((ranking.rank <= k).double().mean())


def retrieval(
    context: Tensor,
    query: Tensor,
    pairs: object = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    similarity: Similarity = "cosine",
) -> dict[str, float]:
    """Measure retrieval in both directions.

    Args:
        context, query: Shared embeddings, (N, D) and (M, D).
        pairs: Matches, (P, 2): context row, query row ([`pairs_from_groups`] makes them); None pairs row i with row i.
        ks: Depths of recall.
        similarity: `"cosine"` or `"euclidean"`.

    Returns:
        `context_to_query_recall@k`, `..._map`, `..._median_rank`, the same for `query_to_context`, and the mean
        `mean_recall@1`. Recalls and mAP in [0, 1]; ranks from 1. Ties count against, so a collapsed space scores 0.

    Example:
        >>> retrieval(torch.eye(3), torch.eye(3))["mean_recall@1"]
        1.0
    """
    result: dict[str, float] = {"mean_recall@1": 0.0}
    for name, ranking in _both_directions(context, query, pairs, similarity).items():
        result |= {f"{name}_recall@{k}": recall_at_k(ranking, k) for k in ks}
        result[f"{name}_map"] = float(ranking.average_precision.mean())
        result[f"{name}_median_rank"] = float(ranking.rank.double().quantile(0.5))
        result["mean_recall@1"] += recall_at_k(ranking, 1) / 2
    return result


def _both_directions(context: Tensor, query: Tensor, pairs: object, similarity: Similarity) -> dict[str, Ranking]:
    context = check_vectors("context", context)
    query = check_vectors("query", query, dim=context.shape[1])
    matches = check_pairs(pairs, len(context), len(query))
    if len(context) * len(query) <= _SHARED_SCORES:
        check_similarity(similarity)
        if similarity == "cosine":
            context, query = normalise(context), normalise(query)
        scores, matches = block_scores(context, query, similarity), matches.to(context.device)
        return {
            "context_to_query": _rank(lambda rows: scores[rows], len(context), matches),
            "query_to_context": _rank(lambda rows: scores.T[rows], len(query), matches.flip(1).unique(dim=0)),
        }
    return {
        "context_to_query": rank_matches(context, query, matches, similarity=similarity),
        "query_to_context": rank_matches(query, context, matches.flip(1), similarity=similarity),
    }


def foscttm(context: Tensor, query: Tensor, pairs: object = None, *, similarity: Similarity = "euclidean") -> float:
    r"""Fraction of samples closer than the true match, over both directions; 0 is perfect, 0.5 is chance.

    $$ \tfrac12 \Big(\operatorname{mean}_i \tfrac{|\{j: d(x_i, y_j) < d(x_i, y_{m(i)})\}|}{M - 1}
       + \operatorname{mean}_j \tfrac{|\{i: d(x_i, y_j) < d(x_{m(j)}, y_j)\}|}{N - 1}\Big) $$

    The arguments are those of [`retrieval`].

    Returns:
        A number in [0, 1]. Ties count one half, so that a collapsed space scores 0.5.

    Example:
        >>> foscttm(torch.eye(3), torch.eye(3))
        0.0

    Source: Liu et al. 2019, "Jointly embedding multiple single-cell omics measurements".
    """
    forward, backward = _both_directions(context, query, pairs, similarity).values()
    return float((forward.closer.mean() + backward.closer.mean()) / 2)
