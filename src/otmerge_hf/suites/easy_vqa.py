"""The easy-VQA suite: features measured once, and the task that a recipe asks for."""

import json
import random
import time
from pathlib import Path
from typing import Any

import torch

from ..baselines import FlopCounter, Recipe, Rows, Task
from ..data import (
    answer_names,
    convert_efficientnet_lite,
    convert_minilm_l3,
    image_paths,
    index_distinct,
    load_easy_vqa,
    load_easy_vqa_statements,
    minilm_l6_path,
    statement,
)
from ..features import FeatureStore, compute_side
from ..features.shards import write_atomically
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .measure import machine, memory_mib, peak_memory_mib


# Kinds of answers, by their place in `answer_names()`.
ANSWER_KINDS = {"shape": range(3), "color": range(3, 11), "yes or no": range(11, 13)}
ROWS = "questions.json"
_BATCH = 32  # inputs that an encoder sees at once: as fast as more, in less memory
FEATURE_CHOICES = ("context_encoder", "query_encoder", "image_size", "context_tokens", "query_tokens")


def encoder_folders(recipe: Recipe) -> tuple[str, str]:
    """Folders of both encoders.

    Raises:
        ValueError: If a name is neither known nor a folder.
        ImportError: If the encoder's package is not installed.
    """
    names = (recipe.context_encoder, recipe.query_encoder)
    folders = []
    for name in names:
        if name.startswith("efficientnet-lite"):
            folders.append(str(convert_efficientnet_lite(name, image_size=recipe.image_size)))
        elif name == "minilm-l6":
            folders.append(str(minilm_l6_path()))
        elif name == "minilm-l3":
            folders.append(str(convert_minilm_l3()))
        elif Path(name).is_dir():
            folders.append(name)
        else:
            raise ValueError(f"`{name}` is no encoder that comes as a package, and no folder.")
    return folders[0], folders[1]


def write_rows(path: Path) -> None:
    """Keep the data set as numbers, so that a cell need not read and hash it again.

    `images` (training, then test) and `texts` (all distinct) are the rows of the feature stores; `train`, `test` and
    `statements` hold columns `image`, `text`, and `label` or `affirmative`; `candidates` has, per question, the
    statement that each answer would make of it.
    """
    splits = {name: load_easy_vqa(name).remove_columns("image").to_dict() for name in ("train", "test")}
    said = load_easy_vqa_statements("train").remove_columns("image").to_dict()
    asked = [*splits["train"]["question"], *splits["test"]["question"]]
    possible = {question: statements(question) for question in dict.fromkeys(asked)}
    written = [text for made in possible.values() for text in made.values()]
    texts, row = index_distinct([*asked, *said["statement"], *written])
    place = {text: i for i, text in enumerate(texts)}
    first_test, start, parts = len(image_paths("train")), 0, {}
    for name, data in (("train", splits["train"]), ("test", splits["test"]), ("statements", said)):
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


def statements(question: str) -> dict[int, str]:
    """Statement that each answer (by its place in `answer_names()`) would make of a question; absurd ones left out.

    Example:
        >>> list(statements("is there a circle?").values())
        ['there is no circle', 'there is a circle']
    """
    made = {}
    for place, answer in enumerate(answer_names()):
        try:
            made[place] = statement(question, answer)
        except ValueError:
            continue  # "what color is the shape?" is not answered by "circle"
    return made


def measure_features(recipe: Recipe, cache_dir: Path) -> dict[str, Any]:
    """Run both frozen encoders over every input and say what that cost.

    Args:
        recipe: Encoders, image size, tokens.
        cache_dir: A folder with the rows of [`write_rows`] and no features, so that nothing is reused.

    Returns:
        Per side: rows, seconds, operations per row, name of the store; and this process's memory, MiB.
    """
    folders = encoder_folders(recipe)
    processor = OTMergeProcessor.from_encoders_pretrained(*folders)
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(
        *folders, context_tokens=recipe.context_tokens, query_tokens=recipe.query_tokens
    )
    rows = json.loads((cache_dir / ROWS).read_text())
    record: dict[str, Any] = {"machine": machine(), "start_memory_mib": memory_mib()}
    for side, given in (("context", [Path(file) for file in rows["images"]]), ("query", rows["texts"])):
        start, start_cpu = time.perf_counter(), time.process_time()
        store = compute_side(model, processor, side, given, cache_dir=cache_dir, batch_size=_BATCH, progress=False)
        record[side] = {
            "rows": len(given),
            "wall_seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - start_cpu,
            "store": store.folder.name,
        }
        with FlopCounter() as counter:
            compute_side(model, processor, side, given[:_BATCH], cache_dir=cache_dir / "counted", progress=False)
        record[side]["flops_per_row"] = counter.total / min(_BATCH, len(given))
    return record | {"peak_memory_mib": peak_memory_mib()}


def load_task(recipe: Recipe, features: dict[str, Any], cache_dir: Path, scratch: Path) -> Task:
    """Split the training images into labelled, paired and unpaired ones, and open the features.

    With `label_fraction` below 1 whole images are labelled, and statements come from the other images only, so that
    no statement tells a label that stands in the row. Statements say what answers would say, in other words: a method
    that has them knows more about their images than the control. Questions to guess are about images without
    statements; where every image has some (`statement_fraction=1`), about those. With all images labelled, statements
    are of the same images.

    Args:
        recipe: What is labelled, paired and unpaired.
        features: From [`measure_features`].
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
    # questions are guessed about images without statements, if some are
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
