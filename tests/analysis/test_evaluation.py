"""Scores by kind, confusions and mistakes, against counts made by hand."""

import pytest
import torch
from PIL import Image
from transformers import AutoConfig

from otmerge_hf.analysis import answer_questions, evaluate_logits, evaluate_merge, save_mistakes
from otmerge_hf.data.answers import Answers
from otmerge_hf.data.questions import Questions
from otmerge_hf.metrics.vqa_accuracy import vqa_scores


def logits_for(answers, said, margin=2.0):
    logits = torch.zeros(len(said), len(answers.names))
    for row, name in enumerate(said):
        logits[row, answers.names.index(name)] = margin + row
    return logits


def test_single_answers_by_kind_and_by_answer():
    answers = Answers(["cat", "dog", "two"], normalize=False)
    true = [("cat",), ("dog",), ("dog",), ("bird",)]
    found = evaluate_logits(
        logits_for(answers, ["cat", "cat", "dog", "dog"]), true, answers, {"question_type": ["a", "a", "b", "b"]}
    )
    assert found.score == 0.5
    assert found.by_kind == {"question_type": {"a": (0.5, 2), "b": (0.5, 2)}}
    assert found.worst == {"bird": (0.0, 1), "dog": (0.5, 2), "cat": (1.0, 1)}
    assert sorted(found.confusions) == [("bird", "dog", 1), ("dog", "cat", 1)]
    assert (found.ceiling, found.out_of_vocabulary) == (0.75, 1)
    assert found.mistakes() == [3, 1]  # the later row was made the more confident
    page = str(found)
    assert page.startswith("accuracy 0.5000 on 4 rows; the answers of 1 rows are unknown to the model: at best 0.7500")
    assert "given instead" in page


def test_votes_are_scored_by_the_official_accuracy():
    answers = Answers(["2", "yes"], "votes")
    true = [("two",) * 3 + ("yes",) * 7, ("yes",) * 10, ("Yes",) * 10, ("no",) * 10]
    found = evaluate_logits(logits_for(answers, ["2", "yes", "yes", "yes"]), true, answers)
    assert found.measure == "VQA accuracy"
    # three of ten: 3 x min(2 / 3, 1) and 7 x min(3 / 3, 1), of ten; a unanimous "Yes" is a spelling of "yes"
    assert found.scores == pytest.approx([0.9, 1.0, 1.0, 0.0])
    assert found.scores[:2] == pytest.approx(vqa_scores(["2", "yes"], true[:2]))
    assert (found.ceiling, found.out_of_vocabulary) == (0.75, 1)


def test_labels_are_scored_by_f1():
    answers = Answers(["a", "b", "c"], "labels", normalize=False)
    logits = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    found = evaluate_logits(logits, [("a", "d"), ()], answers)
    assert found.scores == [0.5, 1.0]
    assert found.ceiling == pytest.approx((2 / 3 + 1) / 2)  # "d" cannot be said
    assert found.said == [("a", "b"), ()]
    assert found.confusions == []


@pytest.fixture
def questions(images, tmp_path):
    files = []
    for i, image in enumerate(images[:2]):
        image.save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    texts = ["what color ?", "what is it ?"]
    return Questions(files, texts, [0, 1, 0], [0, 1, 1], [("red",), (), ("blue",)], ["line 2", "line 3", "line 4"])


def test_a_merge_is_scored_where_answers_are_known(merge, processor, questions, tmp_path):
    names = {0: "red", 1: "blue"}
    model = merge(id2label=names, label2id={name: place for place, name in names.items()}).eval()
    found = evaluate_merge(model, processor, questions, cache_dir=tmp_path / "features", progress=False)
    assert found.rows == [0, 2]
    answered = answer_questions(model, processor, questions, progress=False)
    images = [Image.open(questions.images[row]) for row in questions.image_rows]
    inputs = processor(
        images=images, text=[questions.texts[row] for row in questions.text_rows], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        chances = model(**inputs).logits.softmax(-1)
    assert [said for said, _ in answered] == [(names[i],) for i in chances.argmax(-1).tolist()]
    assert [score for _, score in answered] == pytest.approx(chances.amax(-1).tolist(), abs=1e-5)
    assert found.said == [answered[0][0], answered[2][0]]
    questions.answers[:] = [("blue" if said == ("red",) else "red",) for said, _ in answered]  # all of them wrong
    found = evaluate_merge(model, processor, questions, cache_dir=tmp_path / "features", progress=False)
    where = save_mistakes(tmp_path / "wrong.png", model, processor, questions, found)
    assert sorted(where) == ["line 2", "line 3", "line 4"]
    assert (tmp_path / "wrong.png").stat().st_size > 0


def test_without_any_answer_there_is_nothing_to_score(merge, processor, questions, tmp_path):
    questions.answers[:] = [()] * 3
    with pytest.raises(ValueError, match="no row of memory has an answer"):
        evaluate_merge(merge(), processor, questions, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (Answers(["Yes", "no"], "votes", normalize=False).config, ("votes", False)),
        (Answers(["a", "b"], "labels").config, ("labels", True)),
        ({"id2label": {0: "yes", 1: "2"}}, ("single", True)),
        ({"id2label": {0: "Yes", 1: "no"}}, ("single", False)),
        ({"id2label": {0: "yes", 1: "no"}, "problem_type": "multi_label_classification"}, ("labels", True)),
    ],
)
def test_answers_are_as_the_model_was_taught(merge, tmp_path, fields, expected):
    merge(**fields).save_pretrained(tmp_path)
    answers = Answers.of_config(AutoConfig.from_pretrained(tmp_path))
    assert (answers.targets, answers.normalize) == expected
