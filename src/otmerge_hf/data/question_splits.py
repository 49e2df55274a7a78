"""Rows by split -> three parts that share no image, and what is worth knowing about them."""

from collections.abc import Sequence

import torch

from ..model.texts import NO_TEXT
from .distinct import index_distinct
from .question_rows import Row
from .questions import Questions
from .stored_images import QuestionImages


HELD_OUT = 0.15  # of the images, for validation and for test each where the source has no such split
FEWEST_IMAGES = 6  # to hold some out


def hold_out(rows: dict[str, list[Row] | None], seed: int = 0) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Fill missing splits with whole images of the training rows: 15 % of them for each.

    Args:
        rows: Rows of `train`, `validation` and `test`; None where the source has no such split.
        seed: Of the images drawn.

    Returns:
        Rows of each split, and for those held out where they come from, in words.

    Raises:
        ValueError: If there are too few images.
    """
    train = rows["train"] or []
    missing = [name for name in ("validation", "test") if rows[name] is None]
    keys, numbers = index_distinct(row.key for row in train)
    if missing and len(keys) < FEWEST_IMAGES:
        shown = f"{len(keys)} image{'' if len(keys) == 1 else 's'}"
        raise ValueError(
            f"too few rows: {shown} to train on, of which some are to be held out for {' and '.join(missing)}; "
            f"{FEWEST_IMAGES} images are the least, or bring a {' and a '.join(missing)} split"
        )
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed)).tolist()
    share = max(round(len(keys) * HELD_OUT), 1)
    home = {image: "train" for image in order}
    for place, name in enumerate(missing):
        home |= {image: name for image in order[place * share : (place + 1) * share]}
    parts = {name: own or [] for name, own in rows.items() if own is not None}
    for name in ("train", *missing):
        parts[name] = [row for row, number in zip(train, numbers, strict=True) if home[number] == name]
    return parts, {name: f"{share:,} of {len(keys):,} training images, held out" for name in missing}


def shared_images(parts: dict[str, list[Row]]) -> list[str]:
    """One line for every two splits that have images in common."""
    keys = {name: {row.key for row in rows} for name, rows in parts.items()}
    lines = []
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if both := len(keys[first] & keys[second]):
            lines.append(f"{both:,} of the {len(keys[second]):,} images of {second} are also in {first}")
    return lines


def as_questions(rows: Sequence[Row], kinds: Sequence[str], origin: str) -> Questions:
    """Every image and text of some rows once, and which of them a row is about."""
    keys, image_rows = index_distinct(row.key for row in rows)
    texts, text_rows = index_distinct(row.question or NO_TEXT for row in rows)
    first = {row.key: row.image for row in reversed(rows)}
    return Questions(
        images=QuestionImages([first[key] for key in keys]),
        texts=texts,
        image_rows=image_rows,
        text_rows=text_rows,
        answers=[row.answers for row in rows],
        where=[row.where for row in rows],
        kinds={name: [row.kinds[place] for row in rows] for place, name in enumerate(kinds)},
        origin=origin,
    )
