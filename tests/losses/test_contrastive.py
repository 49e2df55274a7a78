import math

import pytest
import torch

from otmerge_hf.losses import ContrastiveTerm, contrastive_loss


def slow_infonce(x, y, scale, groups):
    count, total = len(x), 0.0
    for first, second in ((x, y), (y, x)):
        for i in range(count):
            logits = {
                j: scale * float(torch.cosine_similarity(first[i], second[j], dim=0))
                for j in range(count)
                if j == i or groups is None or groups[j] != groups[i]
            }
            total -= logits[i] - math.log(sum(math.exp(z) for z in logits.values()))
    return total / (2 * count)


def slow_siglip(x, y, scale, groups, bias):
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            if i != j and groups is not None and groups[i] == groups[j]:
                continue
            logit = scale * float(torch.cosine_similarity(x[i], y[j], dim=0)) + bias
            total += math.log1p(math.exp(-logit if i == j else logit))
    return total / len(x)


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2, 1, 0]])
def test_against_loops(pairs, groups):
    ids = None if groups is None else torch.tensor(groups)
    infonce = contrastive_loss(*pairs, 5.0, ids)
    assert infonce.item() == pytest.approx(slow_infonce(*pairs, 5.0, groups), rel=1e-12)
    siglip = contrastive_loss(*pairs, 5.0, ids, variant="siglip", bias=-2.0)
    assert siglip.item() == pytest.approx(slow_siglip(*pairs, 5.0, groups, -2.0), rel=1e-12)


@pytest.mark.parametrize("variant", ["infonce", "siglip"])
def test_gradient_also_of_the_scale(pairs, variant):
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 0, 1, 2, 3, 4])
    inputs = (pairs[0].requires_grad_(), pairs[1].requires_grad_(), scale)
    assert torch.autograd.gradcheck(lambda x, y, s: contrastive_loss(x, y, s, ids, variant=variant, bias=-1.0), inputs)


@pytest.mark.parametrize("variant", ["infonce", "siglip"])
def test_order_of_pairs_does_not_matter(pairs, variant):
    order = torch.randperm(6)
    shuffled = contrastive_loss(pairs[0][order], pairs[1][order], variant=variant)
    torch.testing.assert_close(shuffled, contrastive_loss(*pairs, variant=variant))


@pytest.mark.parametrize("variant", ["infonce", "siglip"])
def test_a_repeated_pair_costs_nothing_within_its_group(pairs, variant):
    """Repeating all pairs must not change InfoNCE; without groups it adds log 2 of false negatives."""
    x, y = (side.repeat(2, 1) for side in pairs)
    ids = torch.arange(6).repeat(2)
    grouped, blind = (contrastive_loss(x, y, 10.0, g, variant=variant) for g in (ids, None))
    assert grouped < blind


def test_all_in_one_group_leaves_no_negatives(pairs):
    assert contrastive_loss(*pairs, 10.0, torch.zeros(6).long()).item() == 0


def test_term_takes_pairs_the_learned_scale_and_groups(make_outputs):
    mask, ids = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, -1, -1, 2, 3])
    outputs = make_outputs(pair_mask=mask, group_ids=ids)
    rows = mask.bool()
    expected = contrastive_loss(outputs.context_embeds[rows], outputs.query_embeds[rows], 10.0, ids[rows])
    torch.testing.assert_close(ContrastiveTerm()(outputs), expected)
    colder = contrastive_loss(outputs.context_embeds[rows], outputs.query_embeds[rows], 2.0, ids[rows])
    torch.testing.assert_close(ContrastiveTerm(temperature=0.5)(outputs), colder)


def test_without_pairs_there_is_nothing_to_tell(make_outputs):
    outputs = make_outputs(context=torch.randn(8, 4, requires_grad=True), pair_mask=torch.zeros(8).long())
    value = ContrastiveTerm()(outputs)
    value.backward()
    assert value.item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"variant": "clip"}, "`variant` is 'clip'"), ({"temperature": 0.0}, "`temperature` is 0.0")],
)
def test_wrong_choices_are_refused_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveTerm(**options).check(None)


def test_refusals(pairs):
    with pytest.raises(ValueError, match="same shape"):
        contrastive_loss(pairs[0], pairs[1][:3])
    with pytest.raises(ValueError, match="`variant` is 'clip'"):
        contrastive_loss(*pairs, variant="clip")
    with pytest.raises(ValueError, match="`group_ids` has shape"):
        contrastive_loss(*pairs, group_ids=torch.zeros(3))


def test_a_scale_is_one_number():
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    expected = contrastive_loss(x, y, 5.0)
    torch.testing.assert_close(contrastive_loss(x, y, torch.tensor([5.0], dtype=torch.float64)), expected)
    with pytest.raises(ValueError, match=r"`scale` has shape \(3,\); expected one number"):
        contrastive_loss(x, y, torch.ones(3))
