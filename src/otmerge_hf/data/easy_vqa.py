"""The easy-VQA data set from its PyPI package: images of one coloured shape, questions, 13 answers.

In: a split name. Out: `datasets.Dataset` rows, or true statements made from question and answer.
"""

import re
from pathlib import Path
from types import ModuleType

from datasets import ClassLabel, Dataset, Features, Image, Value

from .distinct import index_distinct


SPLITS = ("train", "test")
SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
_ANSWERS = (*SHAPES, *COLORS, "no", "yes")

# Every question of the data set matches exactly one of these. "thing" is "circle" or "red shape", and so on.
_WHAT_COLOR = re.compile(r"what (?:color is|is the color of) the (?P<thing>\w+)\?")
_WHAT_SHAPE_OF_COLOR = re.compile(r"what is the (?P<color>\w+) shape\?")
_WHAT_SHAPE = {
    "what shape is in the image?": "there is a {} in the image",
    "what shape is present?": "a {} is present",
    "what shape does the image contain?": "the image contains a {}",
}
# (question, statement when the thing is there, statement when it is not)
_YES_NO = (
    (
        re.compile(r"is there (?P<negated>not )?a (?P<thing>[\w ]+?)(?P<where> in the image)?\?"),
        "there is a {thing}{where}",
        "there is no {thing}{where}",
    ),
    (
        re.compile(r"does the image (?P<negated>not )?contain a (?P<thing>[\w ]+?)\?"),
        "the image contains a {thing}",
        "the image does not contain a {thing}",
    ),
    (
        re.compile(r"is (?:(?P<negated>no)|a) (?P<thing>[\w ]+?) present\?"),
        "a {thing} is present",
        "no {thing} is present",
    ),
)


def answer_names() -> list[str]:
    """The 13 answers in the fixed order of the `label` column: shapes, colours, no, yes.

    Example:
        >>> answer_names()[:4], len(answer_names())
        (['circle', 'rectangle', 'triangle', 'black'], 13)
    """
    return list(_ANSWERS)


def image_paths(split: str) -> list[Path]:
    """Paths of the split's images; the place in the list is the `image_id`.

    Args:
        split: `train` (4,000 images) or `test` (1,000).

    Raises:
        ValueError: If the split is unknown.
        ImportError: If `easy-vqa` is not installed.

    Example:
        >>> image_paths("test")[7].name
        '7.png'
    """
    _check_split(split)
    paths = getattr(_package(), f"get_{split}_image_paths")()
    return [Path(paths[image_id]) for image_id in range(len(paths))]


def load_easy_vqa(split: str) -> Dataset:
    """Questions about images: 38,575 rows for `train`, 9,673 for `test`.

    Columns: `image` (decoded from its file when read), `image_id` (place in [`image_paths`], counted
    per split), `question`, `answer`, `label` (class of the answer, [`answer_names`]).

    Args:
        split: `train` or `test`; no image is in both.

    Raises:
        ValueError: If the split is unknown.
        ImportError: If `easy-vqa` is not installed.

    Example:
        >>> row = load_easy_vqa("test")[0]
        >>> row["question"], row["answer"], row["image"].size
        ('what is the red shape?', 'triangle', (64, 64))

    Source: https://github.com/vzhou842/easy-VQA, version 1.0.
    """
    questions, answers, image_ids = _questions(split)
    paths = image_paths(split)
    names = answer_names()
    return _dataset(
        {
            "image": [str(paths[i]) for i in image_ids],
            "image_id": image_ids,
            "question": questions,
            "answer": answers,
            "label": [names.index(answer) for answer in answers],
        }
    )


def load_easy_vqa_statements(split: str, affirmative_only: bool = False) -> Dataset:
    """Pairs of an image and a sentence that is true of it, for aligning the two encoders.

    One row per distinct (image, statement), in the order of the questions. Columns: `image`, `image_id`,
    `statement`, `affirmative` (False where the sentence says what the image does not show).

    Args:
        split: `train` or `test`.
        affirmative_only: Leave out the negative sentences. "there is no red shape" is true of seven images in
            eight, so it says little about the one it is paired with.

    Raises:
        ValueError: If the split is unknown.
        ImportError: If `easy-vqa` is not installed.

    Example:
        >>> load_easy_vqa_statements("test")[0]["statement"]
        'the red shape is a triangle'
    """
    questions, answers, image_ids = _questions(split)
    statements = [statement(question, answer) for question, answer in zip(questions, answers, strict=True)]
    pairs, _ = index_distinct(zip(image_ids, statements, strict=True))
    if affirmative_only:
        pairs = [pair for pair in pairs if _is_affirmative(pair[1])]
    paths = image_paths(split)
    return _dataset(
        {
            "image": [str(paths[image_id]) for image_id, _ in pairs],
            "image_id": [image_id for image_id, _ in pairs],
            "statement": [text for _, text in pairs],
            "affirmative": [_is_affirmative(text) for _, text in pairs],
        }
    )


def statement(question: str, answer: str) -> str:
    """Turn an easy-VQA question and its answer into the sentence that they assert together.

    The rule keeps the question's own words: "what ... is the X?" puts the answer after "the X is"; a yes/no
    question becomes the plain sentence if the thing is there ("yes", or "no" to a negated question), and the
    negative sentence otherwise.

    Args:
        question: One of the data set's 107 questions.
        answer: A colour, a shape, `yes` or `no`, as the question asks for.

    Returns:
        A lower-case sentence without a full stop.

    Raises:
        ValueError: If the rule does not know the question, or the answer does not answer it.

    Example:
        >>> statement("what color is the shape?", "blue")
        'the shape is blue'
        >>> statement("is there not a red shape in the image?", "yes")
        'there is no red shape in the image'
    """
    if match := _WHAT_COLOR.fullmatch(question):
        _check_answer(question, answer, COLORS)
        return f"the {match['thing']} is {answer}"
    if match := _WHAT_SHAPE_OF_COLOR.fullmatch(question):
        _check_answer(question, answer, SHAPES)
        return f"the {match['color']} shape is a {answer}"
    if question in _WHAT_SHAPE:
        _check_answer(question, answer, SHAPES)
        return _WHAT_SHAPE[question].format(answer)
    for pattern, present, absent in _YES_NO:
        if match := pattern.fullmatch(question):
            _check_answer(question, answer, ("no", "yes"))
            is_there = (answer == "yes") != bool(match["negated"])
            words = {name: text or "" for name, text in match.groupdict().items()}
            return (present if is_there else absent).format(**words)
    raise ValueError(f"question must be one of easy-VQA's wordings; got {question!r}")


def _is_affirmative(text: str) -> bool:
    return not {"no", "not"} & set(text.split())


def _check_answer(question: str, answer: str, allowed: tuple[str, ...]) -> None:
    if answer not in allowed:
        raise ValueError(f"answer to {question!r} must be one of {', '.join(allowed)}; got {answer!r}")


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")


def _questions(split: str) -> tuple[list[str], list[str], list[int]]:
    _check_split(split)
    return getattr(_package(), f"get_{split}_questions")()


def _dataset(columns: dict[str, list]) -> Dataset:
    kinds: dict[str, ClassLabel | Image | Value] = {
        "image": Image(),
        "image_id": Value("int32"),
        "label": ClassLabel(names=answer_names()),
        "affirmative": Value("bool"),
    }
    return Dataset.from_dict(columns, features=Features({name: kinds.get(name, Value("string")) for name in columns}))


def _package() -> ModuleType:
    try:
        import easy_vqa
    except ImportError as error:
        raise ImportError("the package easy-vqa is not installed; run: pip install easy-vqa==1.0") from error
    return easy_vqa
