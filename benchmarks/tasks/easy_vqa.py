"""easy-VQA: its rows as numbers, and the task that a recipe asks for."""

import json
import random
from pathlib import Path
from typing import Any

import torch

from otmerge_hf.data import (
    answer_names,
    image_paths,
    index_distinct,
    load_easy_vqa,
    load_easy_vqa_statements,
    statement,
)
from otmerge_hf.features import FeatureStore
from otmerge_hf.features.shards import write_atomically

from ..runner.encoding import ROWS, encoder_folders
from ..runner.recipe import Recipe
from .task import Rows, Task


# Kinds of answers, by their place in `answer_names()`.
ANSWER_KINDS = {"shape": range(3), "color": range(3, 11), "yes or no": range(11, 13)}


def write_rows(path: Path) -> None:
    """Keep the data set as numbers, so that a cell need not read and hash it again.

    `images` (training, then test) and `texts` (all distinct) are the rows of the feature stores; `train`, `test` and
    `statements` hold columns `image`, `text`, and `label` or `affirmative`; `candidates` has, per question, the
    statement that each answer would make of it.
    """
    splits = {name: load_easy_vqa(name).remove_columns("image").to_dict() for name in ("train", "test")}
    statements = load_easy_vqa_statements("train").remove_columns("image").to_dict()
    asked = [*splits["train"]["question"], *splits["test"]["question"]]
    possible = {question: candidate_statements(question) for question in dict.fromkeys(asked)}
    written = [text for candidates in possible.values() for text in candidates.values()]
    texts, row = index_distinct([*asked, *statements["statement"], *written])
    place = {text: i for i, text in enumerate(texts)}
    first_test, start, parts = len(image_paths("train")), 0, {}
    for name, data in (("train", splits["train"]), ("test", splits["test"]), ("statements", statements)):
        offset, count = first_test if name == "test" else 0, len(data["image_id"])
        kept = "affirmative" if name == "statements" else "label"
        images = [image + offset for image in data["image_id"]]
        parts[name] = {"image": images, "text": row[start : start + count], kept: data[kept]}
        start += count
    files = [str(file) for name in ("train", "test") for file in image_paths(name)]
    path.parent.mkdir(parents=True, exist_ok=True)
    candidates = {place[q]: {answer: place[text] for answer, text in made.items()} for q, made in possible.items()}
    rows = {"images": files, "training_images": first_test, "texts": texts, "candidates": candidates} | parts
    write_atomically(path, json.dumps(rows).encode())


def candidate_statements(question: str) -> dict[int, str]:
    """Statement that each answer (by its place in `answer_names()`) would make of a question; absurd ones left out.

    Example:
        >>> list(candidate_statements("is there a circle?").values())
        ['there is no circle', 'there is a circle']
    """
    made = {}
    for place, answer in enumerate(answer_names()):
        try:
            made[place] = statement(question, answer)
        except ValueError:
            continue  # "what color is the shape?" is not answered by "circle"
    return made


def load_task(recipe: Recipe, features: dict[str, Any], cache_dir: Path, scratch: Path) -> Task:
    """Split the training images into labelled, paired and unpaired ones, and open the features.

    No label leakage: with `label_fraction` below 1 whole images are labelled, and statements come from the other
    images only. Statements say what answers would say, in other words: a method that has them knows more about their
    images than the control. Questions to pseudo-label are about images without statements; where every image has some
    (`statement_fraction=1`), about those. With all images labelled, statements are of the same images.

    Args:
        recipe: What is labelled, paired and unpaired.
        features: From [`encoding.run_features`].
        cache_dir: Where its stores are.
        scratch: For what does not last.
    """
    folders = encoder_folders(recipe)
    rows = json.loads((cache_dir / ROWS).read_text())
    splits = split_images(recipe, rows["training_images"])

    def choose(part: str, images: list[int] | None, limit: int | None = None) -> Rows:
        columns, kept = rows[part], None if images is None else set(images)
        chosen = [i for i, image in enumerate(columns["image"]) if kept is None or image in kept][:limit]
        if part == "statements" and not recipe.negative_statements:
            chosen = [i for i in chosen if columns["affirmative"][i]]
        return Rows(*([columns[name][i] for i in chosen] for name in ("image", "text", "label") if name in columns))

    stores = [FeatureStore(cache_dir / features[side]["store"], verify="size") for side in ("context", "query")]
    pairs = choose("statements", splits["paired"])
    # pseudo-labels are made for images without statements, if there are any
    free = set(splits["all"]) - set(splits["labelled"])
    asked = choose("train", sorted(free - set(splits["paired"]) or free)).columns
    offered = sorted(splits["unpaired"])
    return Task(
        context_encoder=folders[0],
        query_encoder=folders[1],
        processor=None,
        answers=answer_names(),
        contexts=rows["images"],
        queries=rows["texts"],
        context_store=stores[0],
        query_store=stores[1],
        train=choose("train", splits["labelled"]),
        test=choose("test", None, recipe.max_test_questions),
        pairs=pairs,
        unpaired_contexts=offered,
        unpaired_queries=sorted(set(pairs.columns["query_features"])) if offered else [],
        statistics={
            "context": stores[0].statistics(splits["all"]),
            "query": stores[1].statistics(sorted(set(rows["train"]["text"]))),
        },
        scratch=scratch,
        unlabelled=Rows(asked["context_features"], asked["query_features"]) if free else None,
        candidates={int(q): {int(a): i for a, i in made.items()} for q, made in rows["candidates"].items()},
    )


def split_images(recipe: Recipe, count: int) -> dict[str, list[int]]:
    """Draw which training images are labelled, paired with statements, and offered unpaired.

    Returns:
        `all`, `labelled`, `paired`, `unpaired`: numbers of images. A larger fraction with the same seed contains the
        smaller one's images.

    Example:
        >>> splits = split_images(Recipe(label_fraction=0.25), 8)
        >>> len(splits["labelled"]), len(splits["paired"]), set(splits["labelled"]) & set(splits["paired"])
        (2, 6, set())
    """
    everything = list(range(count))
    random.Random(f"easy-vqa {recipe.seed}").shuffle(everything)
    if recipe.max_images is not None:
        everything = everything[: recipe.max_images]
    labelled = everything[: max(1, round(recipe.label_fraction * len(everything)))]
    rest = everything[len(labelled) :] or labelled
    paired = rest[: max(1, round(recipe.statement_fraction * len(rest)))]
    # from the other end, so that half paired and half unpaired are different images
    unpaired = rest[len(rest) - round(recipe.unpaired_fraction * len(rest)) :]
    return {"all": sorted(everything), "labelled": labelled, "paired": paired, "unpaired": unpaired}


def by_kind(correct: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Accuracy on questions of each kind of answer.

    Example:
        >>> by_kind(torch.tensor([True, False]), torch.tensor([0, 12]))
        {'shape': 1.0, 'yes or no': 0.0}
    """
    masks = {kind: torch.isin(labels, torch.tensor(list(places))) for kind, places in ANSWER_KINDS.items()}
    return {kind: correct[mask].float().mean().item() for kind, mask in masks.items() if mask.any()}
