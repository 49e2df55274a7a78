"""Questions about images, of any source: every image and every text once, and which of them a row is about."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .answers import Answers
from .question_images import kind_of


_ASKS = re.compile(  # questions are often written without their mark
    r"(what|which|who|whose|where|when|why|how|is|are|was|were|do|does|did|can|could|has|have|will)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Questions:
    """N questions (or statements) about images, one row each; `str()` of it counts them.

    Attributes:
        images: The M distinct images, as [`features.encode`] takes them: paths, or opened one at a time.
        texts: The T distinct questions, as they are written.
        image_rows: N places in `images`; or N tuples of them, where rows are about several images.
        text_rows: N places in `texts`.
        answers: N tuples: one answer, several people's answers or several labels; empty where none is known.
        where: N words that say where a row was read: "questions.csv, line 7".
        kinds: Further columns by name, N words each, such as `question_type` and `answer_type`.
        origin: Where the rows come from, in words.

    Example:
        >>> print(Questions(["1.png"], ["what is it?"], [0], [0], [("dog",)]))
        1 row, 1 image, 1 distinct text, from memory
    """

    images: Sequence[Any]
    texts: Sequence[str]
    image_rows: list[int] | list[tuple[int, ...]]
    text_rows: list[int]
    answers: list[tuple[str, ...]]
    where: list[str] = field(default_factory=list)
    kinds: Mapping[str, list[str]] = field(default_factory=dict)
    origin: str = "memory"

    def __len__(self) -> int:
        return len(self.image_rows)

    def images_of(self, row: int) -> list[Any]:
        """The images of one row."""
        return [self.images[place] for place in self.places_of(row)]

    def places_of(self, row: int) -> tuple[int, ...]:
        """Places of the images of one row."""
        places = self.image_rows[row]
        return (places,) if isinstance(places, int) else places

    @property
    def several_images(self) -> bool:
        """Whether rows are about several images."""
        return any(not isinstance(places, int) for places in self.image_rows)

    @property
    def kind(self) -> str:
        """What the questions are about: `images` or `sounds`."""
        return kind_of(self.images)

    def __str__(self) -> str:
        counts = ((len(self), "row"), (len(self.images), self.kind[:-1]), (len(self.texts), "distinct text"))
        shown = ", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in counts)
        return f"{shown}, from {self.origin}"


@dataclass(frozen=True)
class QuestionSplits:
    """What [`load_questions`] returns: three parts, and the answers of the training part.

    Rows held out share no image with the rest of their table. The source's own splits may share some, which a note
    counts.

    Attributes:
        train, validation, test: The parts.
        answers: Turns a row's answers into labels, and labels into `id2label`.
        left_out: Rows that were skipped because something was wrong with them, one line each.
        notes: What is worth knowing about the rows, one line each: images that splits share, answers that only
            validation or test has, rows that repeat.
        source: Name of the data, see [`data.sources.describe_source`].
    """

    train: Questions
    validation: Questions
    test: Questions
    answers: Answers
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def asks(self) -> bool:
        """Whether most of the training texts are questions, by mark or first word; others are statements, or none."""
        texts = self.train.texts
        return 2 * sum(text.rstrip().endswith("?") or bool(_ASKS.match(text)) for text in texts) >= len(texts)

    def __str__(self) -> str:
        parts = [f"{name}: {getattr(self, name)}" for name in ("train", "validation", "test")]
        skipped = [f"left out: {len(self.left_out):,} bad rows"] if self.left_out else []
        return "\n".join([*parts, str(self.answers), *skipped])
