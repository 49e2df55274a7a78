"""A table's columns -> which of them is the image, the question and the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .tables import Table


IMAGE_COLUMNS = (
    "image", "image_path", "img_path", "file_name", "filename", "image_file", "image_name", "img", "picture", "photo",
    "path", "filepath", "file_path", "file", "jpg", "png", "images", "audio", "audio_path", "sound", "wav", "image_id",
)  # fmt: skip
QUESTION_COLUMNS = (
    "question", "questions", "text", "sentence", "hypothesis", "statement", "caption", "prompt", "query",
)  # fmt: skip
CLASS_COLUMNS = ("label", "labels", "gold_label", "class", "category", "target")
ANSWER_COLUMNS = ("answer", "answers", "multiple_choice_answer", *CLASS_COLUMNS)
KIND_COLUMNS = ("question_type", "answer_type")
_WORDY = 3  # words a value, from which a column that nobody named might be the questions


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; `str()` of it lists them.

    Attributes:
        image, question, answer: `question` is None where images alone are classified, `answer` where none is known.
        kinds: Columns by which results are told apart.
        image_id: Column of what the table calls its images, which is compared with their content.

    Example:
        >>> print(find_columns(Table("rows.csv", {"image": ["1.png"], "label": ["cat"]}, ["line 2"])))
        image 'image', no question, answer 'label'
    """

    image: str
    question: str | None
    answer: str | None
    kinds: tuple[str, ...] = ()
    image_id: str | None = None

    def __str__(self) -> str:
        named = {"image": self.image, "question": self.question, "answer": self.answer}
        shown = [f"{role} {name!r}" if name else f"no {role}" for role, name in named.items()]
        return ", ".join(shown + ([f"kinds {', '.join(self.kinds)}"] if self.kinds else []))

    def holds_classes(self, table: Table) -> bool:
        """Whether the answers are names of classes, to be kept as they are written."""
        return self.answer in table.classes or str(self.answer).lower() in CLASS_COLUMNS


def find_columns(
    table: Table,
    image: str | None = None,
    question: str | None = None,
    answer: str | None = None,
    kinds: Sequence[str] | None = None,
    image_id: str | None = None,
    labelled: bool = True,
) -> Columns:
    """Check the columns that are named, and find the others by type and name.

    Args:
        table: The table.
        image: Name of the column of images or of their paths.
        question: Name of the column of questions; `""` where images alone are classified.
        answer: Name of the column of answers; `""` where none is known.
        kinds: Names of the columns by which results are told apart; those of VQA v2, where there are any, when None.
        image_id: Name of the column of the images' names or numbers.
        labelled: Whether answers are needed.

    Raises:
        ValueError: If a column is not there, or not found; the message lists those that are.
    """
    has = f"its columns are {', '.join(table.columns)}"
    named = {"image_column": image, "question_column": question, "answer_column": answer, "image_id_column": image_id}
    for argument, name in [*named.items(), *(("kind_columns", name) for name in kinds or ())]:
        if name and name not in table.columns:
            raise ValueError(f"{argument}: {table.name} has no column {name!r}; {has}")
    by_name = {_plain(name): name for name in reversed(table.columns)}

    def find(names: Sequence[str]) -> str | None:
        return next((by_name[name] for name in names if name in by_name and by_name[name] not in taken), None)

    taken = {name for name in named.values() if name}
    if image is None:
        own = [name for name in table.images or table.image_lists if name not in taken]
        if len(own) > 1 and "image" not in own:
            raise ValueError(f"{table.name} has several columns of images, {', '.join(own)}; pass image_column")
        image = ("image" if "image" in own else own[0]) if own else find(IMAGE_COLUMNS)
    if image is None:
        raise ValueError(f"{table.name}: no column of images was found; {has}; pass image_column")
    taken.add(image)
    if answer is None:
        answer = find(ANSWER_COLUMNS)
    if not answer and labelled:
        raise ValueError(f"{table.name}: no column of answers was found; {has}; pass answer_column")
    taken |= {answer} if answer else set()
    if question is None:
        question = find(QUESTION_COLUMNS)
        if question is None and (
            other := [name for name in table.columns if name not in taken and _is_wordy(table, name)]
        ):
            reason = f"column {other[0]!r} holds text; pass question_column, or '' as question_column for images alone"
            raise ValueError(f"{table.name}: no column of questions was found; {has}; {reason}")
    if kinds is None:
        kinds = [by_name[name] for name in KIND_COLUMNS if name in by_name]
    return Columns(image, question or None, answer or None, tuple(kinds), image_id or None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _is_wordy(table: Table, name: str) -> bool:
    values = [value for value in table.columns[name][:100] if isinstance(value, str)]
    return bool(values) and fmean(len(value.split()) for value in values) >= _WORDY
