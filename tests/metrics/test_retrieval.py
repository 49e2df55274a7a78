import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from otmerge_hf.metrics import foscttm, pairs_from_groups, rank_matches, recall_at_k, retrieval
from otmerge_hf.metrics.retrieval import check_pairs


def on_circle(degrees):
    radians = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_hand_worked_case():
    # Three contexts at 0, 40, 90 degrees; queries at 30 (belongs to 0), 41 (to 40), 80 (to 90).
    # Context 0: nearest query 30, rank 1. Context 40: 41, rank 1. Context 90: 80, rank 1.
    # Query 30: context 40 (10 away) before 0 (30 away), rank 2. Query 41: 40, rank 1. Query 80: 90, rank 1.
    result = retrieval(on_circle([0, 40, 90]), on_circle([30, 41, 80]), ks=(1, 2))
    assert result["context_to_query_recall@1"] == 1.0
    assert result["query_to_context_recall@1"] == pytest.approx(2 / 3)
    assert result["query_to_context_recall@2"] == 1.0
    assert result["query_to_context_map"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert result["query_to_context_median_rank"] == 1.0
    assert result["mean_recall@1"] == pytest.approx((1 + 2 / 3) / 2)


def test_hand_worked_foscttm():
    # Same points; chords grow with angles. Only query 30 has another context (40) closer: 1 of 2 others.
    # Forward 0; backward (1/2 + 0 + 0) / 3 = 1/6; mean 1/12.
    assert foscttm(on_circle([0, 40, 90]), on_circle([30, 41, 80])) == pytest.approx(1 / 12)


def test_several_captions_of_one_image():
    images, captions = on_circle([0, 90]), on_circle([5, 60, 85])
    pairs = pairs_from_groups(torch.tensor([7, 8]), torch.tensor([7, 7, 8]))
    ranking = rank_matches(images, captions, pairs)
    # Image 0 sees 5, 60, 85: its captions are first and second. Image 90 sees 85 first.
    assert ranking.rank.tolist() == [1, 1]
    assert ranking.average_precision.tolist() == [1.0, 1.0]
    # Caption 60 lies closer to the image at 90.
    assert rank_matches(captions, images, pairs.flip(1)).rank.tolist() == [1, 2, 1]


def test_another_match_does_not_count_as_better():
    # Row 0 matches candidates 0 and 2; candidate 1 lies between them: best rank 1, AP = (1/1 + 2/3) / 2.
    ranking = rank_matches(on_circle([0]), on_circle([1, 2, 3]), torch.tensor([[0, 0], [0, 2]]))
    assert ranking.rank.tolist() == [1]
    assert ranking.average_precision.item() == pytest.approx((1 + 2 / 3) / 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(["cosine", "euclidean"]))
def test_agrees_with_sklearn_and_brute_force(seed, tied, similarity):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(13, 3, generator=generator, dtype=torch.float64)
    if tied:
        x, y = x.round(), y.round()
    groups_x = torch.randint(0, 6, (9,), generator=generator)
    groups_y = torch.randint(0, 6, (13,), generator=generator)
    relevant = groups_x[:, None] == groups_y[None]
    if not relevant.any():
        return
    ranking = rank_matches(x, y, pairs_from_groups(groups_x, groups_y), similarity=similarity)
    if similarity == "cosine":  # the scores by the same arithmetic, so that exact ties stay ties
        unit = [v / v.norm(dim=1, keepdim=True).clamp_min(1e-300) for v in (x, y)]
        scores = unit[0] @ unit[1].T
    else:
        scores = (2 * x @ y.T - (x**2).sum(1)[:, None] - (y**2).sum(1)[None]).clamp_max(0)
    assert ranking.rows.tolist() == [i for i in range(9) if relevant[i].any()]
    for position, row in enumerate(ranking.rows.tolist()):
        hits = relevant[row]
        best = scores[row][hits].max()
        assert ranking.rank[position] == 1 + int((scores[row][~hits] >= best).sum())
        expected = average_precision_score(hits.numpy(), scores[row].numpy())
        assert ranking.average_precision[position].item() == pytest.approx(expected, abs=1e-12)
        if (~hits).any():
            others = scores[row][~hits]
            closer = [((others > s).double() + 0.5 * (others == s).double()).mean() for s in scores[row][hits]]
            assert ranking.closer[position].item() == pytest.approx(float(torch.stack(closer).mean()))


def test_blocks_do_not_change_the_result(monkeypatch):
    x, y = torch.randn(50, 4).double(), torch.randn(60, 4).double()
    pairs = torch.randint(0, 50, (120, 2))
    whole = rank_matches(x, y, pairs)
    monkeypatch.setitem(rank_matches.__globals__, "BLOCK_ROWS", 8)
    blocked = rank_matches(x, y, pairs)
    assert all(torch.equal(a, b) for a, b in zip(whole, blocked, strict=True))


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_both_directions_may_share_their_scores(monkeypatch, similarity):
    generator = torch.Generator().manual_seed(0)
    context, query = torch.randn(30, 4, generator=generator), torch.randn(50, 4, generator=generator)
    pairs = torch.stack(
        [torch.randint(30, (60,), generator=generator), torch.randint(50, (60,), generator=generator)], 1
    )
    query[:5] = query[5:10]  # ties
    monkeypatch.setitem(retrieval.__globals__, "BLOCK_ROWS", 8)
    measured = []
    for shared in (2**23, 0):
        monkeypatch.setitem(retrieval.__globals__, "_SHARED_SCORES", shared)
        found = retrieval(context, query, pairs, similarity=similarity)
        measured.append(found | {"foscttm": foscttm(context, query, pairs, similarity=similarity)})
        with pytest.raises(ValueError, match="similarity must be 'cosine' or 'euclidean', got 'dot'"):
            retrieval(context, query, pairs, similarity="dot")
    assert measured[0] == pytest.approx(measured[1])


def test_collapsed_space_is_no_success():
    ones = torch.ones(20, 4)
    assert retrieval(ones, ones)["mean_recall@1"] == 0.0
    assert foscttm(ones, ones) == 0.5


def test_random_embeddings_are_at_chance():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 8, generator=generator) for _ in range(2))
    assert foscttm(x, y) == pytest.approx(0.5, abs=0.03)
    assert retrieval(x, y)["context_to_query_recall@10"] == pytest.approx(10 / 400, abs=0.02)


def test_unmatched_rows_are_distractors():
    pairs = torch.tensor([[0, 0]])
    assert rank_matches(on_circle([0]), on_circle([10, 5]), pairs).rank.tolist() == [2]
    assert len(rank_matches(on_circle([0, 3]), on_circle([10, 5]), pairs).rows) == 1


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (torch.tensor([[0, 3]]), "pairs names query row 3, but query has rows 0 to 2"),
        (torch.tensor([[-1, 0]]), "pairs names context row -1"),
        (torch.zeros(0, 2, dtype=torch.long), "pairs is empty"),
        (torch.tensor([0, 1]), r"pairs must be \(P, 2\)"),
        (torch.tensor([[0.0, 1.0]]), "pairs must hold integers"),
        (None, "context has 2 rows and query 3"),
    ],
)
def test_bad_pairs_are_named(pairs, message):
    with pytest.raises(ValueError, match=message):
        check_pairs(pairs, 2, 3)


def test_groups_without_common_member():
    with pytest.raises(ValueError, match="no group in common"):
        pairs_from_groups(torch.tensor([1]), torch.tensor([2]))


def test_recall_depth_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        recall_at_k(rank_matches(torch.eye(2), torch.eye(2), check_pairs(None, 2, 2)), 0)
