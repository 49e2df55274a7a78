import numpy as np
import pytest
import torch

from otmerge_hf.losses import KLOTTerm, Teacher, klot_loss


@pytest.fixture
def similarities():
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.rand(6, 5, generator=generator, dtype=torch.float64) * 0.6 for _ in range(2))


def slow_klot(entropic, similarity, teacher, epsilon, teacher_epsilon):
    plan, target = entropic.plan(-similarity, epsilon), entropic.plan(-teacher, teacher_epsilon)
    return float((target * np.log(target / plan)).sum())


def test_value_against_pot(similarities, entropic):
    k, teacher = similarities
    slow = slow_klot(entropic, k.numpy(), teacher.numpy(), 0.1, 0.05)
    assert klot_loss(k, teacher, 0.1, 0.05).item() == pytest.approx(slow, rel=1e-3)


def test_gradient_has_the_students_epsilon_below(similarities, entropic, finite_difference):
    """The paper prints the teacher's epsilon there; finite differences say otherwise."""
    k, teacher = similarities[0].requires_grad_(), similarities[1]
    klot_loss(k, teacher, 0.1, 0.05).backward()
    slow = finite_difference(lambda s: slow_klot(entropic, s, teacher.numpy(), 0.1, 0.05), k.detach().numpy())
    np.testing.assert_allclose(k.grad.numpy(), slow, atol=1e-2 * np.abs(slow).max())
    plans = entropic.plan(-k.detach().numpy(), 0.1), entropic.plan(-teacher.numpy(), 0.05)
    np.testing.assert_allclose(k.grad.numpy(), (plans[0] - plans[1]) / 0.1, atol=1e-2 * np.abs(slow).max())
    assert np.abs(k.grad.numpy() - (plans[0] - plans[1]) / 0.05).max() > 0.5 * np.abs(slow).max()


def test_blind_to_shifts_of_rows_and_columns(similarities):
    k, teacher = similarities
    shifted = k + torch.arange(6.0)[:, None] / 10 - torch.arange(5.0)[None] / 10
    assert klot_loss(shifted, teacher).item() == pytest.approx(klot_loss(k, teacher).item(), abs=2e-2)


def test_order_of_points_does_not_matter(similarities):
    k, teacher = similarities
    rows, columns = torch.randperm(6), torch.randperm(5)
    shuffled = klot_loss(k[rows][:, columns], teacher[rows][:, columns])
    assert shuffled.item() == pytest.approx(klot_loss(k, teacher).item(), rel=1e-3)


def test_refusals(similarities):
    with pytest.raises(ValueError, match="one shape"):
        klot_loss(similarities[0], similarities[1].T)
    with pytest.raises(ValueError, match="`epsilon` is 0"):
        klot_loss(*similarities, epsilon=0.0)
    with pytest.raises(ValueError, match="`teacher_epsilon` is -1"):
        klot_loss(*similarities, teacher_epsilon=-1.0)


def test_term_compares_with_the_teacher_on_token_means(make_outputs):
    outputs = make_outputs(pair_mask=torch.zeros(8))
    teacher = Teacher(torch.randn(3, 6), torch.randn(3), torch.randn(3, 5), torch.randn(3))
    term = KLOTTerm(epsilon=0.1, teacher_epsilon=0.05)
    with pytest.raises(ValueError, match="no teacher"):
        term(outputs)
    term.teacher = teacher
    context = outputs.context_tokens[:, :2].mean(1) @ teacher.context_weight.T + teacher.context_bias
    query = outputs.query_tokens.mean(1) @ teacher.query_weight.T + teacher.query_bias
    target = torch.cosine_similarity(context[:, None], query[None], dim=-1)
    own = torch.cosine_similarity(outputs.context_embeds[:, None], outputs.query_embeds[None], dim=-1)
    assert term(outputs).item() == pytest.approx(klot_loss(own, target, 0.1, 0.05).item(), rel=1e-4)
