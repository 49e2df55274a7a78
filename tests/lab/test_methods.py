"""Every method by name: what it learns from, what learns in it, and what it leaves alone."""

import copy
import sys

import pytest
import torch

from benchmarks.methods import METHODS, get_method, stages
from benchmarks.methods.nearest_statement import answer_by_statement
from benchmarks.methods.predict import predict
from benchmarks.tasks.task import NotApplicable


NEGATIVE_CONTROLS = ("weight_average", "fisher", "regmean")
RUNNABLE = [name for name in METHODS if name not in NEGATIVE_CONTROLS]
# labels, pairs, whether rows without partner were used
SEEN = {
    "linear": (24, 16, True),
    "paired": (24, 16, True),
    "contrastive": (24, 16, True),
    "statement_scoring": (0, 16, True),
    "statement_teacher": (24, 16, True),
    "statement_transport": (0, 16, True),
    "merged": (24, 16, True),
    "frozen_fuser": (24, 16, True),
    "procrustes": (24, 16, False),
    "cca": (24, 16, False),
    "sinkhorn": (24, 0, True),
    "mmd": (24, 0, True),
    "prototype": (24, 0, True),
    # each statement once more with the question that asks for just it
    **dict.fromkeys(
        (
            "grown",
            "grown_transport",
            "grown_everything",
            "matched",
            "matched_frozen",
            "matched_kept",
            "frozen_attention",
            "frozen_transport",
        ),
        (24, 21, True),
    ),
}


def changed(before, after, part):
    names = [name for name in before if name.startswith(part)]
    assert names, part
    return any(not torch.equal(before[name], after[name]) for name in names)


@pytest.mark.parametrize("name", RUNNABLE)
def test_runs_and_says_what_it_saw(name, task, recipe):
    fitted = get_method(name)(task, recipe)
    labels, pairs, unpaired = SEEN.get(name, (24, 0, False))
    assert (fitted.labels, fitted.pairs, fitted.unpaired_contexts > 0) == (labels, pairs, unpaired)
    if name in ("most_frequent", "statement_scoring", "statement_transport"):
        assert fitted.predictions.shape == (16,)
        return
    assert fitted.phases[-1].steps == (1 if name in ("words_linear", "matched_frozen", "matched_kept") else 4)
    assert all(phase.flops > 0 and phase.cpu_seconds > 0 for phase in fitted.phases)
    assert not fitted.model.loss_terms
    assert not fitted.model.otmerge.loss_terms


def test_no_alignment_starts_from_the_weights_of_the_merge(task, recipe):
    first, second = (task.build(recipe).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = task.build(recipe.replace(seed=1)).state_dict()
    assert not torch.equal(first["classifier.0.weight"], other["classifier.0.weight"])


def test_statement_scoring_answers_by_alignment_alone(task, recipe):
    """The context is its colour, so pairs alone must tell which statement is true of an unseen one."""
    fitted = get_method("statement_scoring")(
        task, recipe.replace(max_steps=60, align_min_steps=60, learning_rate=3e-3)
    )
    asked = torch.tensor(task.test.columns["query_features"]) == 0
    correct = fitted.predictions == task.test.labels()
    assert correct[asked].float().mean() >= 0.75
    allowed = [task.candidates[question] for question in task.test.columns["query_features"]]
    assert all(answer in made for answer, made in zip(fitted.predictions.tolist(), allowed, strict=True))


def test_statement_scoring_needs_statements(task, recipe):
    task.candidates = {}
    with pytest.raises(NotApplicable, match="no statements"):
        get_method("statement_scoring")(task, recipe)


@pytest.mark.parametrize(("name", "pairs"), [("statement_teacher", 16), ("self_training", 0)])
def test_pseudo_labels_are_learned_and_counted(name, pairs, task, recipe, monkeypatch):
    taught, learn_answers = [], stages.learn_answers

    def look(task, fitted, *args, pseudo_labelled=None, **choices):
        taught.append((copy.deepcopy(fitted.model.state_dict()), pseudo_labelled))
        return learn_answers(task, fitted, *args, pseudo_labelled=pseudo_labelled, **choices)

    monkeypatch.setattr(sys.modules[get_method(name).__module__], "learn_answers", look)
    fitted = get_method(name)(task, recipe)
    assert (fitted.labels, fitted.pseudo_labels, fitted.pairs) == (24, 40, pairs)
    assert fitted.phases[-1].rows == 64
    start, pseudo_labelled = taught[-1]
    if name == "self_training":
        built = task.build(recipe).state_dict()
        assert all(torch.equal(start[key], built[key]) for key in built)
        expected = predict(get_method("no_alignment")(task, recipe).model, task.unlabelled, task.cached_collator())
    else:
        aligned = task.build(recipe)
        aligned.load_state_dict(start)
        expected = answer_by_statement(task, aligned.otmerge, task.unlabelled)
    assert pseudo_labelled.columns["labels"] == expected.tolist()
    task.unlabelled = None
    with pytest.raises(NotApplicable, match="nothing is left to pseudo-label"):
        get_method(name)(task, recipe)


def test_methods_repeat_under_one_seed(task, recipe):
    runs = [get_method("merged")(task, recipe).model.state_dict() for _ in range(2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize(
    ("name", "learns", "stays"),
    [
        ("no_alignment", ["otmerge.context_adapter", "fuser", "classifier"], ["otmerge.context_encoder"]),
        ("frozen_fuser", ["otmerge.query_adapter", "classifier"], ["fuser", "positions", "otmerge.query_encoder"]),
        ("zero_shot_average", ["classifier"], ["otmerge.context_adapter", "otmerge.query_encoder"]),
        ("joint", ["otmerge.context_encoder", "otmerge.query_encoder", "fuser"], ["otmerge.context_standardizer"]),
    ],
)
def test_what_learns(name, learns, stays, task, recipe, monkeypatch):
    built = {}
    build = type(task).build

    def remember(self, *args, **choices):
        model = build(self, *args, **choices)
        built.update(copy.deepcopy(model.state_dict()))
        return model

    monkeypatch.setattr(type(task), "build", remember)
    after = get_method(name)(task, recipe).model.state_dict()
    assert all(changed(built, after, part) for part in learns)
    assert not any(changed(built, after, part) for part in stays)


@pytest.mark.parametrize(("name", "noisy"), [("joint", True), ("joint_still", False)])
def test_encoders_that_train_are_noisy_or_still(name, noisy, task, recipe, monkeypatch):
    seen, forward = [], type(task.query_encoder).forward

    def look(self, *args, **kwargs):
        seen.append(self.training)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(task.query_encoder), "forward", look)
    before = task.query_encoder.state_dict()
    after = get_method(name)(task, recipe).model.otmerge.query_encoder.state_dict()
    assert set(seen) == {noisy}
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_lora_leaves_the_encoders_own_weights(task, recipe):
    before = {name: value.clone() for name, value in task.query_encoder.state_dict().items()}
    model = get_method("lora")(task, recipe).model
    after = dict(model.otmerge.query_encoder.named_parameters())
    for name, value in before.items():
        wrapped = name.replace(".query.", ".query.base_layer.").replace(".value.", ".value.base_layer.")
        assert torch.equal(after.get(name, after.get(wrapped)), value), name
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in after.items())


def test_a_blank_side_makes_the_answer_blind_to_it(task, recipe):
    seen, collate = [], task.cached_collator()

    def spy(batch):
        seen.extend(row["context_features"] for row in batch)
        return collate(batch)

    task.cached_collator = lambda: spy
    fitted = get_method("question_only")(task, recipe)
    assert fitted.blank_sides == ("context",)
    assert len(set(task.train.columns["context_features"])) == 12
    assert set(seen) == {0}


def test_unpaired_terms_do_not_meet_the_pairs(task, recipe, monkeypatch):
    kept, run = [], stages.train_alignment
    monkeypatch.setattr(stages, "train_alignment", lambda m, rows, *a, **k: kept.append(rows) or run(m, rows, *a, **k))
    get_method("mmd")(task, recipe)
    columns = kept[0].columns
    pairs = set(zip(*(task.pairs.columns[c] for c in ("context_features", "query_features")), strict=True))
    drawn = list(zip(columns["context_features"], columns["query_features"], strict=True))
    assert set(columns["context_features"]) == set(range(12, 32))
    assert sum(couple in pairs for couple in drawn) < len(drawn) * 0.7


def test_images_of_one_statement_are_no_negatives(task, recipe):
    task.unpaired_contexts = []
    seen, collate = [], task.cached_collator()
    task.cached_collator = lambda: lambda rows: seen.append(collate(rows)) or seen[-1]
    get_method("contrastive")(task, recipe.replace(max_steps=1))
    batch = seen[0]
    same = (batch["query_features"][:, None] == batch["query_features"][None]).flatten(2).all(dim=2)
    assert torch.equal(batch["group_ids"][:, None] == batch["group_ids"][None], same)
    assert 8 < same.sum() < 64


@pytest.mark.parametrize("name", NEGATIVE_CONTROLS)
def test_weight_merging_is_refused_across_architectures(name, task, recipe):
    with pytest.raises(NotApplicable, match="ViTModel and a BertModel"):
        get_method(name)(task, recipe)


@pytest.mark.parametrize("name", METHODS)
def test_every_row_of_the_table_names_a_documented_function(name):
    method = get_method(name)
    assert method.__doc__
    assert METHODS[name].about


def test_unknown_method():
    with pytest.raises(ValueError, match="'jiont'; expected one of most_frequent"):
        get_method("jiont")
