"""Pseudo-labels against a slow reading of the definition, and end to end on texts."""

import pytest
import torch

from otmerge_hf import OTMergeModel
from otmerge_hf.data import answer_names, statement
from otmerge_hf.features import FeatureCollator, encode
from otmerge_hf.training import candidate_statements, make_pseudo_labels, nearest_statement, pseudo_labels


ANSWERS = ["red", "green", "blue", "yes", "no"]


def slowly(x, y, contexts, questions, candidates):
    """Every question by itself, in float64."""
    labels, scores, margins = [], [], []
    for context, question in zip(contexts, questions, strict=True):
        made = candidates[question]
        cosines = {a: torch.cosine_similarity(x[context].double(), y[row].double(), dim=0) for a, row in made.items()}
        if not cosines:
            labels.append(-100)
            continue
        best = max(cosines, key=lambda answer: cosines[answer].item())
        rest = [value for answer, value in cosines.items() if answer != best]
        labels.append(best)
        scores.append(cosines[best].item())
        margins.append(cosines[best].item() - max(rest, default=torch.tensor(float("-inf"))).item())
    return labels, scores, margins


@pytest.mark.parametrize("block", [2**24, 40])
def test_equals_the_slow_reading(block, monkeypatch):
    monkeypatch.setattr(pseudo_labels, "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 6, generator=generator), 9 * torch.randn(40, 6, generator=generator)
    sizes = torch.randint(0, 5, (15,), generator=generator).tolist()
    candidates = [
        dict(zip(torch.randperm(30, generator=generator).tolist(), rows, strict=False))
        for rows in (torch.randint(0, 40, (size,), generator=generator).tolist() for size in sizes)
    ]
    assert {0, 1, 4} <= set(sizes)
    contexts = torch.randint(0, 12, (200,), generator=generator).tolist()
    questions = torch.randint(0, 15, (200,), generator=generator).tolist()
    made = nearest_statement(x, y, contexts, questions, candidates)
    labels, scores, margins = slowly(x, y, contexts, questions, candidates)
    assert made.labels.tolist() == labels
    answered = made.labels != -100
    assert made.scores[answered].tolist() == pytest.approx(scores, abs=1e-6)
    assert made.margins[answered].tolist() == pytest.approx(margins, abs=1e-6)
    assert made.scores[~answered].isnan().all()
    assert made.refused == {"no answer makes a statement": int((~answered).sum())}
    chosen = made.rows(0.2)
    assert set(chosen.tolist()) == {i for i, m in enumerate(made.margins.tolist()) if m >= 0.2}
    # numbered otherwise, as rows of a store: a mapping does as well as a list
    mapping = {7 * number + 3: row for number, row in enumerate(candidates)}
    again = nearest_statement(x, y, contexts, [7 * number + 3 for number in questions], mapping)
    assert torch.equal(again.labels, made.labels)


def test_the_first_of_equal_statements_wins():
    x, y = torch.ones(1, 2), torch.ones(3, 2)
    assert nearest_statement(x, y, [0], [0], [{9: 1, 4: 0}]).labels.tolist() == [9]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"context_embeds": torch.ones(2, 3)}, ValueError, "`statement_embeds` has shape"),
        ({"context_embeds": torch.full((2, 2), torch.nan)}, ValueError, "`context_embeds` holds NaN"),
        ({"contexts": [0]}, ValueError, "`contexts` has 1 rows and `questions` 2"),
        ({"contexts": [0, 5]}, IndexError, "names rows up to 5; there are 2"),
        ({"contexts": [0, -1]}, IndexError, "there are 2"),
        ({"candidates": [{}]}, ValueError, "None of the 2 `questions` has a candidate"),
        ({"candidates": [{0: 7}]}, IndexError, "out of "),
    ],
)
def test_low_level_refusals(change, error, message):
    arguments = {
        "context_embeds": torch.ones(2, 2),
        "statement_embeds": torch.ones(3, 2),
        "contexts": [0, 1],
        "questions": [0, 0],
        "candidates": [{0: 1}],
    } | change
    with pytest.raises(error, match=message):
        nearest_statement(**arguments)


def test_candidates_are_the_answers_that_fit():
    made = candidate_statements("is there a circle?", answer_names())
    assert list(made.values()) == ["there is no circle", "there is a circle"]
    assert set(candidate_statements("how many dogs are there?", ["red", "2", "three", "yes"])) == {1, 2}
    assert candidate_statements("pourquoi ?", ANSWERS) == {}
    template = candidate_statements("what color?", ["red", "2"], "{question} it is {answer}")
    assert template == {0: "what color? it is red", 1: "what color? it is 2"}
    own = candidate_statements("Farbe?", ["rot"], lambda question, answer: f"{question[:-1]} ist {answer}")
    assert own == {0: "Farbe ist rot"}


@pytest.mark.parametrize("rule", ["{question}", "{question} {answer} {more}", "plain", "{} {}"])
def test_a_template_needs_both_fields_and_no_other(rule):
    with pytest.raises(ValueError, match=r"`rule` is .*expected a template with"):
        candidate_statements("what?", ANSWERS, rule)


def test_a_rule_of_another_type_is_refused():
    with pytest.raises(ValueError, match="`rule` is a int"):
        candidate_statements("what?", ANSWERS, 3)


@pytest.fixture
def aligned(merge):
    return merge(cls=OTMergeModel, shared_dim=8)


QUESTIONS = ["what color is the shape?", "is the shape red?", "why?", "what color is the shape?", "is there a shape?"]
ROWS = [0, 1, 2, 2, 0]


def test_texts_and_a_store_of_contexts(aligned, processor, images, tmp_path):
    store = encode(aligned, processor, "context", images, cache_dir=tmp_path, progress=False)
    aligned.train()
    made = make_pseudo_labels(
        aligned, processor, store, QUESTIONS, ROWS, ANSWERS, cache_dir=str(tmp_path), progress=False
    )
    assert aligned.training
    aligned.eval()
    assert list(made.refused.values()) == [1]
    assert "`why` question is open" in next(iter(made.refused))
    with torch.no_grad():
        context = aligned.get_context_embeds(**processor(images=images, return_tensors="pt"))
        for number, (question, row) in enumerate(zip(QUESTIONS, ROWS, strict=True)):
            offered = candidate_statements(question, ANSWERS)
            if not offered:
                assert made.labels[number] == -100
                continue
            texts = processor(text=list(offered.values()), return_tensors="pt", padding=True)
            cosine = torch.cosine_similarity(context[row], aligned.get_query_embeds(**texts))
            assert list(offered)[int(cosine.argmax())] == made.labels[number]
            assert made.scores[number].item() == pytest.approx(cosine.max().item(), abs=1e-5)
    same = make_pseudo_labels(aligned, processor, context, QUESTIONS, ROWS, ANSWERS, progress=False)
    assert torch.equal(same.labels, made.labels)


def test_each_distinct_statement_is_encoded_once(aligned, processor, monkeypatch):
    seen = []
    monkeypatch.setattr(pseudo_labels, "encode", lambda *a, **o: (seen.append(a[3]), encode(*a, **o))[1])
    make_pseudo_labels(aligned, processor, torch.ones(3, 8), QUESTIONS * 4, ROWS * 4, ANSWERS, progress=False)
    expected = [statement(q, a) for q in QUESTIONS[:1] for a in ANSWERS[:3]]
    expected += [statement(q, a) for q in (QUESTIONS[1], QUESTIONS[4]) for a in ("yes", "no")]
    assert seen == [list(dict.fromkeys(expected))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"questions": ["why?", "pourquoi ?"]},
            r"None of the 2 `questions` makes a statement: .*open.*\(1\).*forms \(1\)",
        ),
        ({"questions": []}, "`questions` holds 0 texts and `context_rows` 2"),
        ({"context_rows": [0]}, "`questions` holds 2 texts and `context_rows` 1"),
        ({"answers": []}, "`answers` is empty"),
        ({"contexts": torch.ones(2, 5)}, "has shape"),
        ({"answers": ["two", "3"]}, "must be a color"),
    ],
)
def test_refusals(change, message, aligned, processor):
    arguments = {
        "contexts": torch.ones(2, 8),
        "questions": ["what color is the shape?"] * 2,
        "context_rows": [0, 1],
        "answers": ANSWERS,
    } | change
    with pytest.raises(ValueError, match=message):
        make_pseudo_labels(aligned, processor, **arguments, progress=False)


def test_the_labels_are_trained_on(merge, processor, images, tmp_path):
    """From aligned encoders to an answering merge, with the questions that had a statement."""
    from transformers import TrainingArguments

    from otmerge_hf.training import train_answers

    model = merge(id2label=dict(enumerate(ANSWERS)), label2id={a: i for i, a in enumerate(ANSWERS)})
    contexts = encode(model, processor, "context", images, cache_dir=tmp_path, progress=False)
    texts = encode(model, processor, "query", list(dict.fromkeys(QUESTIONS)), cache_dir=tmp_path, progress=False)
    made = make_pseudo_labels(model, processor, contexts, QUESTIONS, ROWS, ANSWERS, progress=False)
    place = list(dict.fromkeys(QUESTIONS))
    rows = [
        {"context_features": ROWS[i], "query_features": place.index(QUESTIONS[i]), "labels": int(made.labels[i])}
        for i in made.rows().tolist()
    ]
    assert len(rows) == 4
    args = TrainingArguments(
        str(tmp_path / "run"), max_steps=60, learning_rate=1e-2, use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    trainer = train_answers(model, rows, FeatureCollator(contexts, texts), args, eval_questions=rows)
    assert trainer.evaluate()["eval_accuracy"] == 1.0
