"""A closed form in the adapters: distances are the fit's own, and the shared space is everyone's."""

import torch

from benchmarks.methods import closed_forms
from otmerge_hf.alignment import Procrustes
from otmerge_hf.model.fusers import masked_mean


def test_embeddings_are_those_of_the_fit(task, recipe, monkeypatch):
    kept = {}
    monkeypatch.setattr(
        closed_forms, "learn_answers", lambda t, fitted, *rest: kept.setdefault("model", fitted.model) and fitted
    )
    fit = Procrustes(shared_dim=8)
    fitted = closed_forms.fit_closed_form(task, recipe.replace(shared_dim=24), fit)
    base = fitted.model.otmerge.eval()
    features, mask = task.context_store.batch([0, 3, 5])
    embeds = base.get_context_embeds(context_features=features, context_features_mask=mask)
    expected = fit.transform_context(masked_mean(base.context_standardizer(features), mask))
    assert embeds.shape == (3, 24)
    torch.testing.assert_close(embeds[:, :8], expected, rtol=1e-4, atol=1e-5)
    assert embeds[:, 8:].abs().max() == 0
    assert fitted.pairs == 16
