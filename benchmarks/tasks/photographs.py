"""A labelled data set about photographs -> a `Task`, aligned by the captions of other photographs.

In: rows of (photograph, text, answer) in a training and a test part. Out: training, validation and test rows over
features, and pairs from those photographs of Flickr8k that are not the task's own.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..runner.encoding import encoder_folders
from ..runner.recipe import Recipe
from .features import encode_lists
from .flickr8k import Captioned, caption_rows, read_photographs
from .task import Rows, Task


#: What these tasks start from: 7 x 7 tokens of a photograph of 224 pixels.
RECIPE = Recipe(image_size=224, context_tokens="last_hidden_state")
VALIDATION_FRACTION = 0.2
NO_LABEL = -100  # cross-entropy passes over it, and no prediction equals it


@dataclass(frozen=True)
class Example:
    """A text about a photograph, and the answer."""

    file: Path
    text: str
    answer: str


@dataclass(frozen=True)
class Labelled:
    """A data set as its files have it.

    Attributes:
        name: Its name; splits are drawn by it and the seed.
        answers: Names of the answers.
        train: Rows whose photographs are split into training and validation.
        test: Rows about other photographs.
        files: Every distinct photograph to encode; those of all variants, so that they share features.
        texts: Every distinct text to encode.
    """

    name: str
    answers: list[str]
    train: list[Example]
    test: list[Example]
    files: list[Path]
    texts: list[str]


def split_photographs(name: str, files: Collection[Path], recipe: Recipe) -> dict[str, list[Path]]:
    """Draw which training photographs are kept for validation, labelled, and not labelled.

    Returns:
        `validation`, `labelled`, `unlabelled`. A larger fraction with the same seed contains the smaller one's
        photographs; validation is the same for every fraction.

    Example:
        >>> splits = split_photographs("some", [Path(str(i)) for i in range(10)], Recipe(label_fraction=0.5))
        >>> {part: len(files) for part, files in splits.items()}
        {'validation': 2, 'labelled': 4, 'unlabelled': 4}
    """
    order = sorted(files)
    random.Random(f"{name} {recipe.seed}").shuffle(order)
    first = max(1, round(VALIDATION_FRACTION * len(order)))
    training = order[first:][: recipe.max_images]
    count = max(1, round(recipe.label_fraction * len(training)))
    return {"validation": order[:first], "labelled": training[:count], "unlabelled": training[count:]}


def make_task(own: Labelled, recipe: Recipe, data: Path, cache_dir: Path, scratch: Path) -> Task:
    """Split, encode what is not in the cache, and pair.

    Flickr8k's captions give the pairs: of all its photographs but those whose file names are among the task's own,
    `statement_fraction`; from the other end, `unpaired_fraction` is offered unpaired. A photograph's captions are one
    group. Statistics are those of the training photographs and their texts, labelled or not, without validation.

    Args:
        own: The data set.
        recipe: What is labelled, paired and unpaired; encoders.
        data: Folder of the data sets, for `flickr8k`.
        cache_dir: Where features are kept.
        scratch: For what does not last.
    """
    parts = split_photographs(own.name, {row.file for row in own.train}, recipe)
    place = {file: number for number, file in enumerate(own.files)}
    text_place = {text: number for number, text in enumerate(own.texts)}
    label = {answer: number for number, answer in enumerate(own.answers)}

    def about(part: str) -> list[Example]:
        kept = set(parts[part])
        return [row for row in own.train if row.file in kept]

    def rows(examples: list[Example], labelled: bool = True) -> Rows:
        labels = [label.get(row.answer, NO_LABEL) for row in examples] if labelled else None
        return Rows([place[row.file] for row in examples], [text_place[row.text] for row in examples], labels)

    pool = read_photographs(data)
    pairs, offered, captions = _draw_pairs(own, pool, recipe)
    stores = encode_lists(recipe, [own.files, [one.file for one in pool]], [own.texts, captions], cache_dir)
    validation, test = about("validation"), own.test[: recipe.max_test_questions]
    train, unlabelled = rows(about("labelled")), rows(about("unlabelled"), labelled=False)
    seen = {name: sorted({*column, *train.columns[name]}) for name, column in unlabelled.columns.items()}
    return Task(
        *encoder_folders(recipe),
        processor=None,
        answers=own.answers,
        contexts=[str(file) for file in [*own.files, *(one.file for one in pool)]],
        queries=[*own.texts, *captions],
        context_store=stores[0],
        query_store=stores[1],
        train=train,
        test=rows(test),
        pairs=pairs,
        unpaired_contexts=sorted(set(offered.columns["context_features"])),
        unpaired_queries=sorted(set(offered.columns["query_features"])),
        statistics={
            side: store.statistics(seen[f"{side}_features"])
            for side, store in zip(("context", "query"), stores, strict=True)
        },
        scratch=scratch,
        unlabelled=unlabelled if len(unlabelled) else None,
        validation=rows(validation),
        references={"validation": [row.answer for row in validation], "test": [row.answer for row in test]},
    )


def _draw_pairs(own: Labelled, pool: list[Captioned], recipe: Recipe) -> tuple[Rows, Rows, list[str]]:
    """Rows that are paired, rows offered unpaired, and all captions; numbers follow those of the task's own inputs."""
    names = {file.name for file in own.files}
    order = [number for number, photograph in enumerate(pool) if photograph.file.name not in names]
    random.Random(f"flickr8k {recipe.seed}").shuffle(order)
    paired = order[: max(1, round(recipe.statement_fraction * len(order)))]
    # from the other end, so that half paired and half unpaired are different photographs
    unpaired = order[len(order) - round(recipe.unpaired_fraction * len(order)) :]
    pairs, captions = caption_rows(pool, paired, len(own.files), len(own.texts))
    return pairs, caption_rows(pool, unpaired, len(own.files), len(own.texts))[0], captions
