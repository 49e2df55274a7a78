"""Tasks on photographs: tiny folders of the same layout, tiny random encoders; and counts of the real ones."""

import os
from pathlib import Path

import pytest
import torch
from photograph_folders import SHARED, write_folders
from PIL import Image

from benchmarks.methods import get_method, stages
from benchmarks.methods.predict import predict
from benchmarks.runner.recipe import Recipe
from benchmarks.tasks import FROM_FOLDER, get_loader
from benchmarks.tasks.daquar import read_daquar
from benchmarks.tasks.flickr8k import read_photographs
from benchmarks.tasks.folder import VARIABLE, data_folder
from benchmarks.tasks.joined_store import join_stores
from benchmarks.tasks.photographs import split_photographs
from benchmarks.tasks.published import DAQUAR, published
from otmerge_hf.features import FeatureStore, compute_features, mean_features


REAL = Path(os.environ.get(VARIABLE) or "absent")
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"{VARIABLE} names no folder")


@pytest.fixture
def recipe(encoder_folders):
    return Recipe(
        context_encoder=encoder_folders[0], query_encoder=encoder_folders[1], image_size=32,
        context_tokens="last_hidden_state", shared_dim=16, min_steps=2, align_min_steps=2, max_steps=2, batch_size=8,
    )  # fmt: skip


@pytest.fixture
def load(tmp_path, recipe):
    data = write_folders(tmp_path / "data")
    return lambda name, **choices: get_loader(name)(
        recipe.replace(**choices), data, tmp_path / "cache", tmp_path / "scratch"
    )


def photographs(rows):
    return set(rows.columns["context_features"])


def test_flickr8k_pairs_photographs_with_their_captions(load):
    task = load("flickr8k")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 30, "validation": 10, "test": 10}
    for rows in task.splits.values():
        for row in range(len(rows)):
            number = rows[row]["context_features"]
            assert task.queries[rows[row]["query_features"]].startswith(f"the {number} shape")
            assert task.contexts[number].endswith(f"p{number}.jpg")
            assert rows[row]["group_ids"] == number
    assert (len(task.context_store), len(task.query_store)) == (10, 50)


def test_entailment_leaves_its_photographs_out_of_the_pairs(load):
    task = load("esnlive_f8k", label_fraction=0.5)
    assert task.answers == ["entailment", "neutral", "contradiction"]
    assert sorted(Path(task.contexts[n]).name for n in photographs(task.pairs)) == [
        f"p{n}.jpg" for n in range(10) if f"p{n}.jpg" not in SHARED
    ]
    for row in (task.pairs[n] for n in range(len(task.pairs))):
        number = Path(task.contexts[row["context_features"]]).stem[1:]
        assert task.queries[row["query_features"]].startswith(f"the {number} shape")
    assert len(task.test) == 9
    for part in (task.train, task.validation, task.test):
        for row in (part[n] for n in range(len(part))):
            assert task.answers[row["labels"]] in task.queries[row["query_features"]]
    assert set(task.references["test"]) == set(task.answers)


def test_no_photograph_is_in_two_parts(load):
    for name in ("esnlive_f8k", "daquar"):
        task = load(name, label_fraction=0.2)
        parts = [photographs(rows) for rows in (task.train, task.validation, task.unlabelled, task.test, task.pairs)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert "labels" not in task.unlabelled.columns


def test_fractions_are_nested_and_validation_stays():
    files = [Path(f"{number}.jpg") for number in range(100)]
    parts = [split_photographs("x", files, Recipe(label_fraction=f, seed=3)) for f in (0.05, 0.2, 1.0)]
    assert [len(part["labelled"]) for part in parts] == [4, 16, 80]
    assert set(parts[0]["labelled"]) < set(parts[1]["labelled"]) < set(parts[2]["labelled"])
    assert parts[0]["validation"] == parts[2]["validation"]
    assert parts[2]["unlabelled"] == []
    assert split_photographs("x", files, Recipe(seed=4))["validation"] != parts[0]["validation"]
    assert split_photographs("x", files[::-1], Recipe(seed=3)) == parts[2]


def test_daquar_subsets(load):
    task = load("daquar")
    assert task.answers == ["table", "chair", "red", "2", "lamp"]  # by frequency, then by name
    assert task.references["test"] == ["table", "sofa", "chair"]
    assert task.test.columns["labels"] == [0, -100, 1]
    assert task.unlabelled is None
    whole = load("daquar-all")
    assert "book, scissor" in whole.answers
    assert whole.references["test"][-1] == "lamp, table"
    assert whole.context_store.folder == task.context_store.folder  # every subset shares the features
    reduced = load("daquar-reduced37")
    assert (len(reduced.train) + len(reduced.validation), len(reduced.test)) == (5, 3)


def test_unpaired_photographs_come_from_the_other_end(load):
    task = load("daquar", statement_fraction=0.5, unpaired_fraction=0.5)
    assert len(photographs(task.pairs)) == len(task.unpaired_contexts) == 5
    assert not photographs(task.pairs) & set(task.unpaired_contexts)
    assert len(task.unpaired_queries) == 25
    assert load("daquar").unpaired_contexts == []


def test_a_method_learns_and_is_scored(load, recipe):
    task = load("daquar", label_fraction=0.5)
    for name in ("merged", "procrustes"):
        fitted = get_method(name)(task, recipe)
        assert fitted.pairs == len(task.pairs) == 50
        answers = predict(fitted.model, task.test, task.cached_collator())
        assert answers.shape == (3,)
        assert (answers == task.test.labels())[1].item() is False  # no class is "sofa"


def test_features_are_those_of_the_files(load, tmp_path):
    task = load("daquar")
    for store in (task.context_store, task.query_store):
        assert store.dtype == torch.float16
    row, last = task.train[0]["context_features"], len(task.contexts) - 1
    model = task.build(Recipe(shared_dim=16, context_tokens="last_hidden_state"))
    images = [Image.open(task.contexts[number]) for number in (row, last)]
    pixels = task.require_processor()(images=images, text=["red", "red"], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.otmerge.context_encoder(pixels).last_hidden_state
    found, _ = task.context_store.batch([row, last])
    torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=2e-3)


def test_joined_stores(tmp_path):
    def store(value, texts):
        return compute_features(
            lambda batch: (torch.full((len(batch), 2, 3), float(value)), None),
            texts, cache_dir=tmp_path / "cache", key={"value": value}, shard_size=2, progress=False,
        )  # fmt: skip

    first, second = store(1, ["a", "b", "c"]), store(2, ["d", "e"])
    joined = join_stores([first, second], tmp_path / "cache")
    assert len(joined) == 5
    assert mean_features(joined)[:, 0].tolist() == [1, 1, 1, 2, 2]
    assert join_stores([first, second], tmp_path / "cache").folder == joined.folder
    (tmp_path / "cache").rename(tmp_path / "moved")
    moved = FeatureStore(tmp_path / "moved" / joined.folder.name)
    assert moved.batch([4])[0].unique().tolist() == [2]


def test_stores_of_two_widths_are_refused(tmp_path):
    stores = [
        compute_features(
            lambda batch, width=width: (torch.ones(len(batch), 1, width), None),
            ["a"], cache_dir=tmp_path, key={"width": width}, progress=False,
        )
        for width in (2, 3)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected one width and dtype"):
        join_stores(stores, tmp_path)


def test_folder_is_named_by_argument_or_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "..") == tmp_path / ".."
    monkeypatch.delenv(VARIABLE)
    for given in (None, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match="name their folder with --data or OTMERGE_DATA"):
            data_folder(given)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of flickr8k, esnlive_f8k, daquar"):
        get_loader("absent")
    with pytest.raises(ValueError, match="expected one of single, all, reduced37"):
        read_daquar(tmp_path, "absent")


def test_every_loader_is_there():
    assert all(callable(get_loader(name)) for name in FROM_FOLDER)


@needs_data
def test_counts_of_the_real_folders():
    """Of the official splits, as published."""
    sizes = {name: (len(read.train), len(read.test)) for name in ("all", "single", "reduced37", "reduced37_all")
             if (read := read_daquar(REAL, name))}  # fmt: skip
    assert sizes == {
        "all": (6795, 5673), "single": (6149, 5076), "reduced37": (3825, 290), "reduced37_all": (3876, 297)
    }  # fmt: skip
    counts = [photograph.split for photograph in read_photographs(REAL)]
    assert [counts.count(split) for split in ("train", "validation", "test")] == [6000, 1000, 1000]


def test_published_rows_are_of_tasks_and_marked():
    assert {row.task for row in DAQUAR} == {"daquar", "daquar-reduced37"} <= set(FROM_FOLDER)
    assert all(row.published and row.source for row in DAQUAR)
    # WUPS gives at least what accuracy gives, and more the lower the threshold
    assert all(0 < row.accuracy <= row.wups_90 <= row.wups_0 < 1 for row in DAQUAR)
    assert published("esnlive_f8k") == []


def test_captions_of_one_photograph_are_no_negatives(load, recipe, monkeypatch):
    task, seen = load("daquar"), []
    monkeypatch.setattr(stages, "train_alignment", lambda model, data, *rest, **options: seen.append(data))
    stages.align(task, task.build(recipe), recipe, [], paired=True)
    assert seen[0].columns["group_ids"] == task.pairs.columns["context_features"]
    assert len(set(seen[0].columns["group_ids"])) == 10
