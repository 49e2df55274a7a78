import json
import types

import pytest
import torch

from otmerge_hf.alignment import CCA
from otmerge_hf.training import KLOTLossCallback, VarianceLossCallback


@pytest.fixture
def fit(features):
    rows = features(32).rows
    context = torch.stack([row["context_features"][row["context_features_mask"].bool()].mean(0) for row in rows])
    query = torch.stack([row["query_features"].mean(0) for row in rows])
    return CCA(shared_dim=4).fit(context, query), context, query


def test_a_fit_on_raw_features_is_brought_to_what_the_adapters_receive(fit, make_model, make_trainer, features):
    """With a standardising model the teacher's similarities have to be the fit's own."""
    alignment, context, query = fit
    model = make_model()
    generator = torch.Generator().manual_seed(4)
    for_side = [(torch.randn(d, generator=generator), torch.rand(d, generator=generator) + 0.5) for d in (16, 8)]
    model.fit_standardization(*for_side)
    callback = KLOTLossCallback(teacher=alignment)
    make_trainer(model, [callback], max_steps=1).train()
    seen = [(raw - mean) / std for raw, (mean, std) in zip((context, query), for_side, strict=True)]
    expected = torch.cosine_similarity(
        alignment.transform_context(context)[:, None], alignment.transform_query(query)[None], dim=-1
    )
    torch.testing.assert_close(callback.term.teacher.similarity(*seen), expected, rtol=1e-3, atol=1e-4)
    already = KLOTLossCallback(teacher=alignment, standardized=True)
    make_trainer(model, [already], max_steps=1).train()
    torch.testing.assert_close(already.term.teacher.similarity(context, query), expected, rtol=1e-3, atol=1e-4)


def test_the_state_is_json_and_gives_the_callback_back(fit):
    callback = KLOTLossCallback(0.1, teacher=fit[0], epsilon=0.1)
    state = json.loads(json.dumps(callback.state()))
    again = KLOTLossCallback.from_state(state)
    assert again.state() == callback.state()
    assert again.weight == 0.1
    assert all(torch.equal(a, b) for a, b in zip(again.teacher, callback.teacher, strict=True))


def test_training_moves_the_plan_towards_the_teacher(fit, make_model, make_trainer, logs_of):
    callbacks = [KLOTLossCallback(teacher=fit[0]), VarianceLossCallback(0.1)]
    trainer = make_trainer(make_model(), callbacks, max_steps=25, per_device_train_batch_size=16)
    trainer.train()
    values = logs_of(trainer, "klot")
    assert sum(values[-5:]) < 0.7 * sum(values[:5])


def test_refusals(fit, make_model, make_trainer):
    with pytest.raises(ValueError, match="`teacher` is a CCA; expected a fit"):
        KLOTLossCallback(teacher=CCA())
    maps = types.SimpleNamespace(context_map_=fit[0].query_map_, query_map_=fit[0].context_map_)
    trainer = make_trainer(make_model(), [KLOTLossCallback(teacher=maps)])
    with pytest.raises(ValueError, match="maps 8 context features; the model has 16"):
        trainer.train()
