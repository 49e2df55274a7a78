"""Rows by split -> three parts, of which those held out share no image with the rest, and what they do share."""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Any

import torch

from ..model.texts import NO_TEXT
from .distinct import index_distinct
from .question_images import kind_of
from .question_rows import Row
from .questions import Questions
from .stored_images import QuestionImages


# Of the images, for validation and for test each where the source has no such split; of captions: pair_splits.
QUESTION_IMAGES_HELD_OUT = 0.15
FEWEST_IMAGES = 6  # to hold some out


def hold_out(rows: dict[str, list[Row] | None], seed: int = 0) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Fill missing splits with whole images of the training rows: 15 % of them for each.

    Rows of several images that share one, directly or through other rows, stay together, as a group of images.

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
    numbers = group_by_images(train)
    count = max(numbers, default=-1) + 1
    single = all(len(row.keys) == 1 for row in train)
    kind = kind_of([image for row in train[:1] for image in row.images])
    one, unit = (kind[:-1], kind) if single else (f"group of {kind}", f"groups of {kind}")
    if missing and count < FEWEST_IMAGES:
        shown = f"{count} {one if count == 1 else unit}"
        raise ValueError(
            f"too few rows: {shown} to train on, of which some are to be held out for {' and '.join(missing)}; "
            f"{FEWEST_IMAGES} {unit} are the least, or bring a {' and a '.join(missing)} split"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    share = max(round(count * QUESTION_IMAGES_HELD_OUT), 1)
    home = {image: "train" for image in order}
    for place, name in enumerate(missing):
        home |= {image: name for image in order[place * share : (place + 1) * share]}
    parts = {name: own or [] for name, own in rows.items() if own is not None}
    for name in ("train", *missing):
        parts[name] = [row for row, number in zip(train, numbers, strict=True) if home[number] == name]
    return parts, {name: f"{share:,} of {count:,} training {unit}, held out" for name in missing}


def group_by_images(rows: Sequence[Row]) -> list[int]:
    """Number of each row's group, from 0 in order of first appearance: rows with an image in common are of one."""
    leader: dict[Hashable, Hashable] = {}

    def find(key: Hashable) -> Hashable:
        while leader.setdefault(key, key) != key:
            leader[key] = key = leader[leader[key]]
        return key

    for row in rows:
        for key in row.keys[1:]:
            leader[find(key)] = find(row.keys[0])
    return index_distinct(find(row.keys[0]) for row in rows)[1]


def shared_images(parts: dict[str, list[Row]]) -> list[str]:
    """One line for every two splits that have images in common."""
    keys = {name: {key for row in rows for key in row.keys} for name, rows in parts.items()}
    lines = []
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if both := len(keys[first] & keys[second]):
            kind = kind_of(parts[second][0].images)
            lines.append(f"{both:,} of the {len(keys[second]):,} {kind} of {second} are also in {first}")
    return lines


def as_questions(rows: Sequence[Row], kinds: Sequence[str], origin: str) -> Questions:
    """Every image and text of some rows once, and which of them a row is about."""
    keys, numbers = index_distinct(key for row in rows for key in row.keys)
    taken = iter(numbers)
    image_rows: list[Any] = [tuple(islice(taken, len(row.keys))) for row in rows]
    if all(len(row.keys) == 1 for row in rows):
        image_rows = numbers
    texts, text_rows = index_distinct(row.question or NO_TEXT for row in rows)
    first = {key: image for row in reversed(rows) for key, image in zip(row.keys, row.images, strict=True)}
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
