"""Well-known data sets by name: which columns, which splits, which rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from .preset_parts import easy_vqa_parts, gqa_parts, metadata_parts
from .table_parts import Part
from .tables import Table


@dataclass(frozen=True)
class Preset:
    """How one data set is read; whatever the caller names goes before it.

    Attributes:
        hub: Names on the Hub; the first is read where the preset's own name is given as the source.
        columns: Arguments of [`load_questions`] that name columns; of several names, the first that is there.
        config: Configuration to read on the Hub, where the caller names none.
        splits: `train_split`, `validation_split`, `test_split`, where the source has such a part.
        parts: Lists the tables of a source, where [`find_parts`] cannot.
        prepare: Makes the rows of each table what they mean.
    """

    hub: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    config: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    parts: Callable[[Any, dict[str, Any]], list[Part]] | None = None
    prepare: Callable[[Table], Table] | None = None


def choices_in_question(table: Table) -> Table:
    """ScienceQA: the question with its choices, "Which is hot? Choices: ice; fire.", and the answer in words.

    Example:
        >>> row = {"question": ["Which is hot?"], "choices": [["ice", "fire"]], "answer": [1]}
        >>> table = choices_in_question(Table("train", row, ["row 1"]))
        >>> table.columns["question"], table.columns["answer"]
        (['Which is hot? Choices: ice; fire.'], ['fire'])
    """
    questions, choices, answers = (_need(table, name) for name in ("question", "choices", "answer"))
    texts = [f"{text} Choices: {'; '.join(own)}." for text, own in zip(questions, choices, strict=True)]
    words = [
        own[answer] if answer is not None and 0 <= int(answer) < len(own) else None
        for own, answer in zip(choices, map(_whole, answers), strict=True)
    ]
    return _with(table, question=texts, answer=words)


def options_by_letter(table: Table) -> Table:
    """NLVR2: the answer in words, where it is the letter of an option; "A" of True and False is True.

    Example:
        >>> row = {"options": [["True", "False"]], "answer": ["B"]}
        >>> options_by_letter(Table("test", row, ["row 1"])).columns["answer"]
        ['False']
    """
    if not {"options", "answer"} <= set(table.columns):
        return table
    pairs = zip(table.columns["options"], table.columns["answer"], strict=True)
    places = [(own, ascii_uppercase.find(str(letter).strip())) for own, letter in pairs]
    words = [own[place] if own and 0 <= place < len(own) else None for own, place in places]
    return _with(table, answer=words)


def single_answers(table: Table) -> Table:
    """DAQUAR: the rows with one answer, as the literature reports them; "book, scissor" is a list of two.

    Example:
        >>> table = Table("train", {"answer": ["lamp", "book, scissor"]}, ["line 2", "line 3"])
        >>> single_answers(table).columns["answer"]
        ['lamp']
    """
    counts = table.columns.get("num_answers")
    answers = _need(table, "answer")
    one = [str(n).strip() == "1" for n in counts] if counts else ["," not in str(answer) for answer in answers]
    return table.select([row for row, keep in enumerate(one) if keep])


#: Name -> how it is read. Column names are those of the Hub's copies of 2025.
PRESETS: dict[str, Preset] = {
    "vqav2": Preset(
        hub=("lmms-lab/VQAv2",),
        columns={
            "image_column": ("image",),
            "question_column": ("question",),
            "answer_column": ("answers", "multiple_choice_answer"),
            "image_id_column": ("image_id",),
        },
    ),
    "gqa": Preset(
        hub=("lmms-lab/GQA",),
        columns={"image_column": ("image",), "question_column": ("question",), "answer_column": ("answer",)},
        splits={
            "train_split": "train_balanced",
            "validation_split": "val_balanced",
            "test_split": "testdev_balanced",
        },
        parts=gqa_parts,
    ),
    "snli-ve": Preset(
        hub=("Phando/snli-ve-shuffled", "Multimodal-Fatima/SNLI-VE_train"),
        columns={
            "image_column": ("image",),
            "question_column": ("hypothesis", "sentence"),
            "answer_column": ("gold_label", "label"),
        },
    ),
    "scienceqa": Preset(
        hub=("derek-thomas/ScienceQA",),
        columns={"image_column": ("image",), "question_column": ("question",), "answer_column": ("answer",)},
        prepare=choices_in_question,
    ),
    "easy-vqa": Preset(parts=easy_vqa_parts),
    "daquar": Preset(
        splits={"train_split": "questions_train", "test_split": "questions_test"}, prepare=single_answers
    ),
    "imagefolder": Preset(parts=metadata_parts),
    "nlvr2": Preset(
        hub=("TIGER-Lab/NLVR2",),
        columns={
            "image_column": ("images",),
            "question_column": ("question", "sentence"),
            "answer_column": ("answer", "label"),
        },
        config="nlvr2",
        prepare=options_by_letter,
    ),
}


def find_preset(source: Any, name: str | None = None) -> tuple[Any, Preset]:
    """The source to read, and how: the preset of that name, or the one that the source is a name of.

    Raises:
        ValueError: If there is no such preset.

    Example:
        >>> source, preset = find_preset("vqav2")
        >>> source, preset.columns["image_id_column"]
        ('lmms-lab/VQAv2', ('image_id',))
    """
    if name is not None and name not in PRESETS:
        raise ValueError(f"`preset` is {name!r}; expected one of {', '.join(PRESETS)}")
    own = isinstance(source, str) and not Path(source).exists()
    known = source if own and source in PRESETS else None
    asked = name or known or next((key for key, preset in PRESETS.items() if own and source in preset.hub), None)
    if asked is None:
        return source, Preset()
    preset = PRESETS[asked]
    return (preset.hub[0] if known == asked and preset.hub else source), preset


def _need(table: Table, name: str) -> list[Any]:
    if name not in table.columns:
        raise ValueError(f"{table.name} has no column {name!r}; its columns are {', '.join(table.columns)}")
    return table.columns[name]


def _with(table: Table, **columns: list[Any]) -> Table:
    return Table(**{**vars(table), "columns": table.columns | columns})


def _whole(answer: Any) -> int | None:
    return int(answer) if str(answer).strip().isdecimal() else None
