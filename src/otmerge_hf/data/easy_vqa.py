"""The easy-VQA data set from its PyPI package: images of one coloured shape, questions, 13 answers.

In: a split name. Out: `datasets.Dataset` rows, or true statements made from question and answer by [`statement`].
"""

from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, Value

from .distinct import index_distinct
from .statements import statement


SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
_ANSWERS = (*SHAPES, *COLORS, "no", "yes")
_TYPES = {"image": Image(), "image_id": Value("int32"), "affirmative": Value("bool")}
_TYPES |= {"label": ClassLabel(names=list(_ANSWERS))}


def answer_names() -> list[str]:
    """The 13 answers in the fixed order of the `label` column: shapes, colours, no, yes.

    Example:
        >>> answer_names()[:4], len(answer_names())
        (['circle', 'rectangle', 'triangle', 'black'], 13)
    """
    return list(_ANSWERS)


def image_paths(split: str) -> list[Path]:
    """Paths of the images of `train` (4,000) or `test` (1,000); the place in the list is the `image_id`.

    Raises:
        ValueError: If the split is unknown.
        ImportError: If `easy-vqa` is not installed.

    Example:
        >>> image_paths("test")[7].name
        '7.png'
    """
    paths = _get(split, "image_paths")
    return [Path(paths[image_id]) for image_id in range(len(paths))]


def load_easy_vqa(split: str) -> Dataset:
    """Questions about images: 38,575 rows for `train`, 9,673 for `test`; no image is in both.

    Columns: `image` (decoded from its file when read), `image_id` (place in [`image_paths`], counted
    per split), `question`, `answer`, `label` (class of the answer, [`answer_names`]).

    Raises:
        ValueError, ImportError: As [`image_paths`] does.

    Example:
        >>> row = load_easy_vqa("test")[0]
        >>> row["question"], row["answer"], row["image"].size
        ('what is the red shape?', 'triangle', (64, 64))

    Source: https://github.com/vzhou842/easy-VQA, version 1.0.
    """
    questions, answers, image_ids = _get(split, "questions")
    labels = [_ANSWERS.index(answer) for answer in answers]
    return _dataset(split, image_ids, question=questions, answer=answers, label=labels)


def load_easy_vqa_statements(split: str, affirmative_only: bool = False) -> Dataset:
    """Pairs of an image and a sentence that is true of it, for aligning the two encoders.

    One row per distinct (image, statement), in the order of the questions. Columns: `image`, `image_id`,
    `statement`, `affirmative` (False where the sentence says what the image does not show).

    Args:
        split: `train` or `test`.
        affirmative_only: Leave out the negative sentences. "there is no red shape" is true of seven images in
            eight, so it says little about the one it is paired with.

    Raises:
        ValueError, ImportError: As [`image_paths`] does.

    Example:
        >>> load_easy_vqa_statements("test")[0]["statement"]
        'the red shape is a triangle'
    """
    rows = zip(*_get(split, "questions"), strict=True)
    pairs, _ = index_distinct((image_id, statement(question, answer)) for question, answer, image_id in rows)
    if affirmative_only:
        pairs = [pair for pair in pairs if _is_affirmative(pair[1])]
    image_ids, texts = map(list, zip(*pairs, strict=True))
    return _dataset(split, image_ids, statement=texts, affirmative=list(map(_is_affirmative, texts)))


def _is_affirmative(text: str) -> bool:
    return not {"no", "not"} & set(text.split())


def _dataset(split: str, image_ids: list[int], **columns: list[Any]) -> Dataset:
    paths = image_paths(split)
    columns = {"image": [str(paths[image_id]) for image_id in image_ids], "image_id": image_ids, **columns}
    return Dataset.from_dict(columns, features=Features({name: _TYPES.get(name, Value("string")) for name in columns}))


def _get(split: str, what: str) -> Any:
    if split not in ("train", "test"):
        raise ValueError(f"split must be one of train, test; got {split!r}")
    try:
        import easy_vqa
    except ImportError as error:
        raise ImportError("the package easy-vqa is not installed; run: pip install easy-vqa==1.0") from error
    return getattr(easy_vqa, f"get_{split}_{what}")()
