"""A short contrastive training from a closed form: kept as far as validation gains, resumable, seeded."""

import pytest
import torch
from tiny_training import CONTEXT_DIM, QUERY_DIM
from transformers import Trainer

from otmerge_hf.alignment import CCA, Procrustes
from otmerge_hf.training import refine_alignment


def planted(rows, captions=2, noise=0.1, seed=0):
    """Four shared coordinates behind two mixings, each side with loud coordinates of its own; several captions."""
    draw = torch.Generator().manual_seed(1)
    mixings = torch.randn(CONTEXT_DIM, CONTEXT_DIM, generator=draw), torch.randn(QUERY_DIM, QUERY_DIM, generator=draw)
    draw = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 4, generator=draw)
    owner = torch.arange(rows).repeat_interleave(captions)
    context = torch.cat([shared, 2 * torch.randn(rows, CONTEXT_DIM - 4, generator=draw)], dim=1) @ mixings[0]
    said = shared[owner] + noise * torch.randn(len(owner), 4, generator=draw)
    query = torch.cat([said, 2 * torch.randn(len(owner), QUERY_DIM - 4, generator=draw)], dim=1) @ mixings[1]
    return context, query, torch.stack([owner, torch.arange(len(owner))], dim=1)


@pytest.fixture(scope="module")
def splits():
    return planted(200), planted(60, seed=2)


@pytest.fixture
def aligned(make_model):
    def make(train, fit=None):
        model = make_model(adapter_type="linear").eval()
        model.fit_standardization(*((side.mean(0), side.std(0)) for side in train[:2]))
        model.load_alignment((fit or Procrustes(4)).fit(*train))
        return model

    return make


def adapters(model):
    return {name: value.clone() for name, value in model.state_dict().items() if "_adapter" in name}


def recall(model, rows):
    with torch.no_grad():
        context = model.get_context_embeds(context_features=rows[0][:, None])
        query = model.get_query_embeds(query_features=rows[1][:, None])
    own = torch.nn.functional.normalize(query, dim=1) @ torch.nn.functional.normalize(context, dim=1).T
    return float((own.argmax(1) == rows[2][:, 0]).double().mean())


def refine(model, splits, folder, **options):
    return refine_alignment(model, *splits, folder, **({"steps": 60, "dropout": (0.0, 0.0)} | options))


def test_it_improves_on_a_regularised_fit(splits, aligned, tmp_path):
    model, unseen = aligned(splits[0], CCA(0.1, 4)), planted(100, seed=3)
    before, frozen = recall(model, unseen), model.query_encoder.state_dict()
    made = refine(model, splits, tmp_path)
    assert made.steps > 0
    assert made.after > made.before + 0.2
    assert recall(model, unseen) > before + 0.2
    assert not model.training
    assert not list(tmp_path.iterdir()), "no checkpoint is left"
    assert all(torch.equal(frozen[name], value) for name, value in model.query_encoder.state_dict().items())
    assert not model.context_standardizer._forward_hooks


def test_the_start_is_kept_where_validation_falls(splits, aligned, tmp_path):
    model = aligned(splits[0], CCA(0.1, 4))
    start = adapters(model)
    scale = model.logit_scale.log_scale.item()
    shuffled = splits[0][2].clone()
    shuffled[:, 1] = shuffled[torch.randperm(len(shuffled), generator=torch.Generator().manual_seed(0)), 1]
    made = refine(model, ((*splits[0][:2], shuffled), splits[1]), tmp_path, learning_rate=1.0)
    assert made.steps == 0
    assert made.after == made.before
    assert all(torch.equal(start[name], value) for name, value in adapters(model).items())
    assert model.logit_scale.log_scale.item() == scale


def test_without_validation_the_last_step_is_kept(splits, aligned, tmp_path):
    model = aligned(splits[0])
    made = refine(model, (splits[0], None), tmp_path, steps=30)
    assert (made.steps, made.before, made.after) == (30, None, None)
    assert recall(model, splits[1]) > recall(aligned(splits[0]), splits[1])


def test_what_was_interrupted_goes_on_and_ends_the_same(splits, aligned, tmp_path, monkeypatch):
    straight, stopped = aligned(splits[0]), aligned(splits[0])
    options = {"dropout": (0.3, 0.1), "batch_size": 64}
    expected = refine(straight, splits, tmp_path / "straight", **options)
    step, seen = Trainer.training_step, []

    def interrupted(self, *args, **kwargs):
        seen.append(self.state.global_step)
        if len(seen) == 35:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refine(stopped, splits, tmp_path / "stopped", **options)
    again = aligned(splits[0])
    made = refine(again, splits, tmp_path / "stopped", **options)
    assert seen[35] == 30, "it went on from the last evaluation"
    assert made[:3] == expected[:3]
    for name, value in adapters(straight).items():
        assert torch.equal(adapters(again)[name], value), name


def test_other_choices_resume_nothing(splits, aligned, tmp_path, monkeypatch):
    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 35:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    step = Trainer.training_step
    monkeypatch.setattr(Trainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refine(aligned(splits[0]), splits, tmp_path)
    monkeypatch.undo()
    fresh, after = aligned(splits[0]), aligned(splits[0])
    refine(fresh, splits, tmp_path / "fresh", seed=1)
    refine(after, splits, tmp_path, seed=1)
    assert all(torch.equal(adapters(fresh)[name], value) for name, value in adapters(after).items())


def test_captions_of_one_image_are_no_negatives(splits, aligned, tmp_path, monkeypatch):
    groups = []
    step = Trainer.training_step

    def watched(self, model, inputs, *args):
        groups.append((inputs["group_ids"], inputs["context_features"]))
        return step(self, model, inputs, *args)

    monkeypatch.setattr(Trainer, "training_step", watched)
    refine(aligned(splits[0]), splits, tmp_path, steps=1, batch_size=64)
    ((ids, features),) = groups
    assert len(ids) == 64
    assert torch.equal(features[:, 0], splits[0][0][ids]), "a group is an image: they are fewer than the captions"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` is 0"),
        ({"batch_size": 1}, "`batch_size` is 1; expected at least 2"),
        ({"learning_rate": 0.0}, r"`learning_rate` is 0.0"),
        ({"dropout": (0.5, 1.0)}, r"`dropout` is \(0.5, 1.0\); expected two shares"),
    ],
)
def test_refuses_choices_by_name(splits, aligned, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        refine(aligned(splits[0]), splits, tmp_path, **options)


def test_refuses_rows_by_name_and_adapters_that_are_not_affine(splits, aligned, make_model, tmp_path):
    train, validation = splits
    model = aligned(train)
    with pytest.raises(ValueError, match="train context has 3 features, expected 16"):
        refine(model, ((train[0][:, :3], *train[1:]), validation), tmp_path)
    with pytest.raises(ValueError, match="validation pairs names query row 999"):
        refine(model, (train, (*validation[:2], torch.tensor([[0, 999]]))), tmp_path)
    with pytest.raises(ValueError, match="`model` has mlp adapters; expected linear, orthogonal, monge"):
        refine(make_model(adapter_type="mlp"), splits, tmp_path)
