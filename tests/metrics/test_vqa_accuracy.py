"""The official accuracy of VQA v2: its published rules by hand, and against a slow reading of them, word by word."""

import random

import pytest

from benchmarks.suites.vqa_accuracy_loop import CONTRACTIONS, MARKS, NUMBERS, slow_normal, slow_score, strip
from otmerge_hf.metrics import VQAAccuracy, normalize_answer, soft_scores, vqa_accuracy, vqa_scores


PIECES = [
    *CONTRACTIONS, *NUMBERS, *MARKS, *(8 * [" "]), *(4 * [",", "."]), *"0123456789':;&%$", "a", "an", "the", "The",
    "AN", "Yes", "dog", "Dont", "let's", "she's", "Im", "Ive", "shed", "were", "\n", "\t", "\r", "  ", "\u00a0",
    "\u2003", "\x1c", "\u2019", "...", 33 * ".", "3.", ".5", "1,000", "1, 2", "a,b", "٣", "٣,٤", ".٣", "²", ".²", "½",
    "İ", "ß", "É", "",
]  # fmt: skip


def strings(count):
    rng = random.Random(0)
    return ["".join(rng.choices(PIECES, k=rng.randint(0, 7))) for _ in range(count)]


def test_adversarial_strings_as_the_slow_reading():
    for text in strings(10_000):
        assert normalize_answer(text) == slow_normal(text), repr(text)


def test_adversarial_questions_as_the_slow_reading():
    rng, texts = random.Random(1), strings(300)
    predictions, references, agreed = [], [], 0
    for _ in range(1_000):
        said = rng.choice(texts)
        likely = [said, said + rng.choice([".", " ", "!", "\n"]), "the " + said, said.upper(), rng.choice(texts)]
        answers = rng.choices(likely[: rng.randint(1, 5)], k=rng.choice([4, 10, 10, 10, 11]))
        predictions.append(rng.choice(likely))
        references.append(answers)
        agreed += len(set(map(strip, answers))) == 1
    assert agreed > 50
    expected = [slow_score(said, answers) for said, answers in zip(predictions, references, strict=True)]
    assert vqa_scores(predictions, references) == pytest.approx(expected, abs=1e-12)
    assert len({round(score, 2) for score in expected}) > 5


def test_contractions():
    assert len(CONTRACTIONS) == 114  # of the published 120, four have a capital and two are as they should be
    for missing, full in CONTRACTIONS.items():
        assert normalize_answer(f"I {missing.upper()} know") == f"i {full} know"


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("dont", "don't"),  # the published examples
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        ("100,978", "100978"),
        ("White", "white"),
        ("no.", "no"),
        ("1.5", "1.5"),
        ("3.", "3"),
        ("ten", "10"),
        ("None", "0"),
        ("eleven", "eleven"),
        ("a man on the horse", "man on horse"),
        ("on/off", "on off"),
        ("t-shirt", "t shirt"),
        ("red- and-white", "red andwhite"),  # a mark beside a space goes everywhere, without a space in its place
        ("yes , no", "yes no"),
        ("cats,dogs", "cats dogs"),
        ("1,000 t-shirts", "1000 tshirts"),  # with a comma between digits all marks do
        ("e.t.", "et"),
        ("a.n", ""),  # periods go before articles are looked for
        (34 * ".", ".."),  # the published call takes the flag re.UNICODE, 32, for a count
        ("couldntve", "couldntve"),  # two apostrophes missing: not in the table
        ("somebody'd", "somebodyd"),
        ("shed were well", "shed were well"),  # words of their own
        ("\tyes\n", "yes"),
        ("the", ""),
    ],
)
def test_rules_by_hand(answer, normal):
    assert normalize_answer(answer) == normal


@pytest.mark.parametrize(("agree", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)])
def test_ten_people(agree, score):
    answers = ["Two cats."] * agree + ["a dog"] * (10 - agree)
    assert vqa_scores(["2 cats"], [answers]) == pytest.approx([score])
    assert soft_scores(answers).get("2 cats", 0) == pytest.approx(score)


def test_answers_are_normalised_only_where_they_differ():
    said = ["T-Shirt", "t-shirt", "t-shirt "]
    assert vqa_scores(said, [["T-Shirt", "T-Shirt ", "\tT-Shirt", "T-Shirt\n"]] * 3) == [1, 0, 0]
    assert vqa_scores(said, [["T-Shirt"] * 9 + ["t shirt"]] * 3) == [1, 1, 1]


def test_soft_scores_as_written():
    assert soft_scores(["Yes"] * 2 + ["yes "] * 8, normalize=False) == {"Yes": pytest.approx(0.6), "yes": 1}


@pytest.mark.parametrize("in_memory", [True, False])
def test_metric_in_batches_by_types(in_memory, tmp_path):
    said = ["yes", "no", "2", "two"]
    people = [["Yes"] * 9 + ["no"], ["yes"] * 10, ["two"] * 2 + ["3"] * 8, ["2"] * 10]
    answers, questions = ["yes/no", "yes/no", "number", "number"], ["is the", "is the", "how many", "is the"]
    metric = VQAAccuracy(keep_in_memory=in_memory, cache_dir=str(tmp_path))
    for start in (0, 3):
        metric.add_batch(predictions=said[start : start + 3], references=people[start : start + 3])
    result = metric.compute(answer_types=answers, question_types=questions)
    assert result == vqa_accuracy(said, people, answers, questions)
    assert result.pop("accuracy") == pytest.approx(1.6 / 4)
    assert result["per_answer_type"] == pytest.approx({"number": 0.3, "yes/no": 0.5})
    assert result["per_question_type"] == pytest.approx({"how many": 0.6, "is the": 1 / 3})
    assert metric.compute(predictions=said, references=people) == {"accuracy": pytest.approx(0.4)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "got 0 and 0"),
        ((["a"], []), "got 1 and 0"),
        (
            (["a", "a"], [["a"] * 4, "aaaa"]),
            r"references\[1\] must be a list of four or more people's answers; got 'aaaa'",
        ),
        ((["a"], [["a"] * 3]), r"references\[0\] must be a list of four or more"),
        ((["a"], [[1] * 10]), "answer must be a string; got 1"),
        ((["a"], [[{"answer": "a"}] * 10]), "answer must be a string; got {'answer': 'a'}"),
        (([1], [["a"] * 10]), "answer must be a string; got 1"),
        (([["a"]], [["a"] * 9 + ["b"]]), r"answer must be a string; got \['a'\]"),
        ((["a"], [["a"] * 10], ["x", "y"]), "answer_types must have one name a prediction, 1; got 2"),
        ((["a"], [["a"] * 10], None, []), "question_types must have one name a prediction, 1; got 0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        vqa_accuracy(*arguments)


@pytest.mark.parametrize("answers", ["yes yes", ["yes"] * 3])
def test_soft_scores_need_four_people(answers):
    with pytest.raises(ValueError, match="answers must be a list of four or more people's answers; got "):
        soft_scores(answers)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_number_is_no_answer(normalize):
    with pytest.raises(ValueError, match="answer must be a string; got 2"):
        soft_scores(["2"] * 3 + [2], normalize)
