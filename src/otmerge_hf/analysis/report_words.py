"""Questions or captions -> the transport plan between their words and the image's patches, on a report's page."""

import math
from typing import Any, NamedTuple

import torch

from ..data.answers import Answers
from ..data.pair_splits import PairSplit
from ..data.questions import Questions
from ..hub.facts import Table
from ..model.images import open_image
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from .explanations import word_plan
from .figures import draw_words
from .maps import grid_of, on_grid
from .page import Picture


MOST_WORDS = 11
_HEAD = ("word", "share of the plan", "hottest cell", "its share of the word")


def about_words(
    model: OTMergeForQuestionAnswering | OTMergeModel,
    processor: OTMergeProcessor,
    rows: Questions | PairSplit | None,
    examples: int,
    missing: list[str],
) -> tuple[Any, ...]:
    """For some rows, spread over all, where the plan takes each word's mass from."""
    if rows is None:
        missing.append("Words and patches: no rows; give `questions` or `pairs`.")
        return ()
    if isinstance(rows, Questions) and rows.several_images:
        missing.append("Words and patches: the questions are about several images a row; heat is drawn over one.")
        return ()
    if isinstance(rows, Questions) and isinstance(model, OTMergeModel):
        missing.append("Answers: the merge retrieves, it has no answer head.")
    total = len(rows) if isinstance(rows, Questions) else len(rows.pairs)
    count, parts = min(examples, total), list[Any]()
    for number in range(count):
        image, text, true = _row(rows, number * total // count)
        shown = _example(model, processor, number + 1, open_image(image), text, true)
        if isinstance(shown, str):
            missing.append(f"Words and patches: {shown}")
            return ()
        parts += shown
    return (
        "An entropic transport plan between the shared tokens of both sides, of cost 1 - cosine: where the mass of "
        "each word comes from. Words are pieces as the tokenizer cuts them; rows and columns of cells count from the "
        "upper left. Nobody taught the plan where things are: it shows what alignment made near.",
        *parts,
    )


def _row(rows: Questions | PairSplit, place: int) -> tuple[Any, str, str | None]:
    """Image, text and true answers of one row; None where there are no answers."""
    if isinstance(rows, Questions):
        true = ", ".join(dict.fromkeys(rows.answers[place])) or "not known"
        return rows.images_of(place)[0], rows.texts[rows.text_rows[place]], true
    image, text = rows.pairs[place].tolist()
    return rows.images[image], rows.texts[text], None


class NoPatchesError(ValueError):
    """The merge has no patches, or no words, over which a plan could be drawn; the message says why."""


class WordHeat(NamedTuple):
    """Where the plan between words and patches takes each word's mass from.

    Attributes:
        words: The W words, in pieces as the tokenizer cuts them, without special ones; the first 11.
        shares: (W,), of the plan's mass.
        heat: (W, rows, columns), each word's over the patches, summing to 1.
    """

    words: list[str]
    shares: torch.Tensor
    heat: torch.Tensor


@torch.no_grad()
def word_heat(
    model: OTMergeForQuestionAnswering | OTMergeModel, processor: OTMergeProcessor, image: Any, text: str
) -> WordHeat:
    """Compute the [`word_plan`] of one image and one text, word by word.

    Raises:
        NoPatchesError: If the merge takes one token an image, or one a text.
    """
    inputs = processor(images=[image], text=[text], return_tensors="pt").to(model.device)
    plan = word_plan(model, inputs)[0].float().cpu()  # (S_q, S_c)
    ids = inputs["input_ids"][0].tolist()
    if math.prod(grid_of(model.config.context_grid, plan.shape[1])) == 1:
        raise NoPatchesError("the merge takes one token an image (`context_tokens`), which has no patches.")
    if len(ids) != len(plan):
        raise NoPatchesError("the merge takes one token a text (`query_tokens`), which has no words.")
    special = set(processor.tokenizer.all_special_ids)
    places = [place for place, token in enumerate(ids) if token not in special][:MOST_WORDS]
    words = [processor.tokenizer.decode([ids[place]]).strip() for place in places]
    return WordHeat(words, plan[places].sum(1) / plan.sum(), on_grid(plan[places], model.config.context_grid))


def words_table(found: WordHeat, title: str) -> Table:
    """Each word's share of the plan, its hottest cell, and that cell's share of the word."""
    rows, columns = found.heat.shape[1:]
    lines = []
    for word, share, cells in zip(*found, strict=True):
        row, column = divmod(int(cells.argmax()), columns)
        lines.append((word, f"{share:.3f}", f"row {row + 1}, column {column + 1}", f"{cells.max():.3f}"))
    return Table(f"{title}; an even share of a cell is {1 / (rows * columns):.3f}", _HEAD, tuple(lines))


def words_alt(found: WordHeat, table: Table) -> str:
    """What [`draw_words`] shows, in words."""
    rows, columns = found.heat.shape[1:]
    told = "; ".join(f"{word}: {cell} with {share}" for word, _, cell, share in table.rows)
    return f"The image, and again for each word under the heat of its {rows} by {columns} cells. Hottest: {told}."


def _example(
    model: OTMergeForQuestionAnswering | OTMergeModel,
    processor: OTMergeProcessor,
    number: int,
    image: Any,
    text: str,
    true: str | None,
) -> list[Any] | str:
    """Parts of one row, or why there are none."""
    try:
        found = word_heat(model, processor, image, text)
    except NoPatchesError as error:
        return str(error)
    table = words_table(found, f"Words of example {number}")
    drawn = draw_words(image, found.words, found.heat)
    parts: list[Any] = [
        Picture(f"words-{number}.png", drawn, words_alt(found, table), f"Example {number}: {text}"),
        table,
    ]
    if isinstance(model, OTMergeForQuestionAnswering) and true is not None:
        inputs, answers = processor(images=[image], text=[text], return_tensors="pt"), Answers.of_config(model.config)
        with torch.no_grad():
            logits = model(**inputs.to(model.device)).logits.float().cpu()
        said = answers.predictions(logits)
        (chance,) = answers.confidence(logits, said)
        parts.insert(1, f"It says {', '.join(said[0]) or 'nothing'} (probability {chance:.3f}); true: {true}.")
    return parts
