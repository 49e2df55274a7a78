from collections import defaultdict

import pytest

from otmerge_hf.data import answer_names, image_paths, load_easy_vqa, load_easy_vqa_statements, statement
from otmerge_hf.data.easy_vqa import COLORS, SHAPES


SIZES = {"train": (38_575, 4_000), "test": (9_673, 1_000)}


@pytest.fixture(scope="module", params=SIZES)
def split(request):
    return request.param


def _content(split):
    """Each image's shape and colour, from its open questions alone (the yes/no ones are what is tested)."""
    rows = load_easy_vqa(split).remove_columns("image")
    content = defaultdict(dict)
    for row in rows:
        if row["answer"] in ("yes", "no"):
            continue
        kind = "color" if row["answer"] in COLORS else "shape"
        assert content[row["image_id"]].setdefault(kind, row["answer"]) == row["answer"]
        # "what is the red shape?" also tells the colour; "what color is the circle?" the shape.
        for word in row["question"].rstrip("?").split():
            if word in SHAPES:
                assert content[row["image_id"]].setdefault("shape", word) == word
            if word in COLORS:
                assert content[row["image_id"]].setdefault("color", word) == word
    return content


def _kinds(text):
    words = set(text.split())
    return {kind for kind, names in (("shape", SHAPES), ("color", COLORS)) if words & set(names)}


def _is_true(text, content):
    """An own reading: every shape and colour named is the image's, unless the sentence says no or not."""
    words = set(text.split())
    named = words & {*SHAPES, *COLORS}
    return (named <= set(content.values())) != bool(words & {"no", "not"})


def test_rows_and_columns(split):
    data = load_easy_vqa(split)
    assert data.column_names == ["image", "image_id", "question", "answer", "label"]
    assert (len(data), len(set(data["image_id"]))) == SIZES[split]
    assert data.features["label"].names == answer_names()
    assert data.features["label"].int2str(data[:100]["label"]) == data[:100]["answer"]
    row = data[123]
    assert row["image"].size == (64, 64)
    assert row["image"].filename == str(image_paths(split)[row["image_id"]])
    assert row["image"].filename.endswith(f"{split}/images/{row['image_id']}.png")


def test_image_paths_are_in_the_order_of_their_ids(split):
    paths = image_paths(split)
    assert len(paths) == SIZES[split][1]
    assert [path.stem for path in paths] == [str(i) for i in range(len(paths))]


def test_answer_names_are_the_packages_answers_in_a_fixed_order():
    easy_vqa = pytest.importorskip("easy_vqa")
    assert sorted(answer_names()) == sorted(easy_vqa.get_answers())
    assert answer_names()[0] == "circle"
    assert answer_names()[-2:] == ["no", "yes"]


def test_every_statement_is_true_of_its_image(split):
    content = _content(split)
    rows = load_easy_vqa_statements(split).remove_columns("image")
    known = [row for row in rows if _kinds(row["statement"]) <= content[row["image_id"]].keys()]
    # Of some images no open question tells all; every sentence that occurs is still checked on many others.
    assert {row["statement"] for row in known} == set(rows["statement"])
    assert len(known) > 0.85 * len(rows)
    assert [row["statement"] for row in known if not _is_true(row["statement"], content[row["image_id"]])] == []


def test_every_question_wording_gives_a_plain_sentence():
    pairs = set()
    for split in SIZES:
        data = load_easy_vqa(split).remove_columns("image")
        pairs |= set(zip(data["question"], data["answer"], strict=True))
    assert len({question for question, _ in pairs}) == 107
    assert len(pairs) == 273
    for question, answer in pairs:
        text = statement(question, answer)
        assert text == " ".join(text.split()) == text.lower().rstrip("?.")
        assert text.startswith(("the ", "there is ", "a ", "no "))
        assert {"is", "contains", "contain"} & set(text.split())
        # Nothing is lost or made up: the words that name things are those of the question and the answer.
        things = {*SHAPES, *COLORS, "shape"}
        said = things & {*question.rstrip("?").split(), answer}
        if question.startswith("what shape "):
            said -= {"shape"}
        assert things & set(text.split()) == said


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("what color is the shape?", "blue", "the shape is blue"),
        ("what is the color of the circle?", "teal", "the circle is teal"),
        ("what is the red shape?", "triangle", "the red shape is a triangle"),
        ("what shape is in the image?", "circle", "there is a circle in the image"),
        ("what shape does the image contain?", "circle", "the image contains a circle"),
        ("what shape is present?", "circle", "a circle is present"),
        ("is there a red shape?", "yes", "there is a red shape"),
        ("is there a red shape in the image?", "no", "there is no red shape in the image"),
        ("is there not a circle?", "no", "there is a circle"),
        ("does the image not contain a gray shape?", "yes", "the image does not contain a gray shape"),
        ("does the image not contain a gray shape?", "no", "the image contains a gray shape"),
        ("is no circle present?", "yes", "no circle is present"),
        ("is no circle present?", "no", "a circle is present"),
        ("is a circle present?", "no", "no circle is present"),
    ],
)
def test_statement_cases(question, answer, expected):
    assert statement(question, answer) == expected


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what color is the shape?", "circle"),
        ("is there a circle?", "red"),
        ("what is the red shape?", "yes"),
        ("what shape is present?", "teal"),
        ("where is the shape?", "yes"),
        ("", "yes"),
    ],
)
def test_statement_rejects_what_it_does_not_know(question, answer):
    with pytest.raises(ValueError, match=r"answer to|question must be"):
        statement(question, answer)


def test_statement_pairs_are_distinct_and_repeatable():
    rows = load_easy_vqa_statements("test")
    pairs = list(zip(rows["image_id"], rows["statement"], strict=True))
    assert len(set(pairs)) == len(pairs)
    again = load_easy_vqa_statements("test")
    assert pairs == list(zip(again["image_id"], again["statement"], strict=True))
    affirmative = load_easy_vqa_statements("test", affirmative_only=True)
    assert affirmative["statement"][:] == [
        text for text, keep in zip(rows["statement"], rows["affirmative"], strict=True) if keep
    ]
    assert all(affirmative["affirmative"])
    assert not any({"no", "not"} & set(text.split()) for text in affirmative["statement"])
    assert 0 < len(affirmative) < len(rows)
    assert rows[0]["image"].size == (64, 64)


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split must be one of train, test; got 'validation'"):
        load_easy_vqa("validation")
