"""Cells on 60 images of easy-VQA with the real encoders: what is split, kept, resumed and refused."""

import json

import pytest
import torch

from benchmarks.methods import get_method
from benchmarks.runner import encoding
from benchmarks.runner.cell import Place
from benchmarks.runner.encoding import run_features
from benchmarks.runner.invertibility import reconstruction_errors
from benchmarks.runner.recipe import Recipe
from benchmarks.runner.records import Records
from benchmarks.runner.run import run_cells
from benchmarks.suites import get_suite
from benchmarks.suites.easy_vqa import make_cell
from benchmarks.suites.easy_vqa_cell import features_folder, run_cell
from benchmarks.tasks import easy_vqa
from benchmarks.tasks.easy_vqa import split_images


RECIPE = Recipe(label_fraction=0.25, max_steps=2, min_steps=2, align_min_steps=2, batch_size=16)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Results and cache folders whose features are those of 40 training and 20 test images."""
    pytest.importorskip("easy_vqa")
    pytest.importorskip("efficientnet_lite_pytorch")
    root = tmp_path_factory.mktemp("suite")
    store = features_folder(RECIPE, Place(root / "results", root / "cache"))
    easy_vqa.write_rows(store / encoding.ROWS)
    rows = json.loads((store / encoding.ROWS).read_text())
    first = rows["training_images"]
    rows["images"] = rows["images"][:40] + rows["images"][first : first + 20]
    for part, keep, shift in (("train", range(40), 0), ("statements", range(40), 0), ("test", range(20), first)):
        chosen = [i for i, image in enumerate(rows[part]["image"]) if image - shift in keep]
        rows[part] = {name: [column[i] for i in chosen] for name, column in rows[part].items()}
    rows["test"]["image"] = [image - first + 40 for image in rows["test"]["image"]]
    rows["training_images"] = 40
    (store / encoding.ROWS).write_text(json.dumps(rows))
    features = run_features(RECIPE, store)
    Records(root / "results" / "features.jsonl").add(features)
    return root, store, features


def test_features_say_what_they_cost(prepared):
    _, _, features = prepared
    assert features["context"]["rows"] == 60
    assert 55e6 < features["context"]["flops_per_row"] < 75e6  # 64 px of a network of 0.4 G multiply-adds at 224
    assert features["context"]["cpu_seconds"] > 0
    assert features["peak_memory_mib"] >= features["start_memory_mib"]


@pytest.mark.parametrize("negative", [False, True])
def test_statements_deny_only_if_asked_for(negative, prepared, tmp_path):
    _, store, features = prepared
    task = easy_vqa.load_task(RECIPE.replace(negative_statements=negative), features, store, tmp_path)
    statements = {task.queries[row] for row in task.pairs.columns["query_features"]}
    assert any(" no " in f" {text} " or " not " in text for text in statements) == negative


def test_pseudo_labels_are_for_images_without_statements(prepared, tmp_path):
    _, store, features = prepared
    task = easy_vqa.load_task(RECIPE.replace(statement_fraction=0.5), features, store, tmp_path)
    images = [set(rows.columns["context_features"]) for rows in (task.train, task.pairs, task.unlabelled)]
    assert sorted(set.union(*images)) == list(range(40))
    assert sum(map(len, images)) == 40
    assert easy_vqa.load_task(RECIPE.replace(label_fraction=1.0), features, store, tmp_path).unlabelled is None


def test_labels_and_statements_come_from_different_images(prepared, tmp_path):
    _, store, features = prepared
    task = easy_vqa.load_task(RECIPE, features, store, tmp_path)
    labelled, paired = (set(rows.columns["context_features"]) for rows in (task.train, task.pairs))
    assert len(labelled) == 10
    assert len(paired) == 30
    assert not labelled & paired
    assert set(task.test.columns["context_features"]) == set(range(40, 60))
    assert set(task.unlabelled.columns["context_features"]) == paired
    assert "labels" not in task.unlabelled.columns
    asked = task.queries[task.train.columns["query_features"][0]]
    assert asked.endswith("?")


def test_splits_grow_with_the_fraction():
    small, large = (split_images(Recipe(seed=3, label_fraction=f), 400) for f in (0.05, 0.2))
    assert set(small["labelled"]) < set(large["labelled"])
    assert set(small["labelled"]) != set(split_images(Recipe(seed=4, label_fraction=0.05), 400)["labelled"])
    half = split_images(Recipe(label_fraction=0.5, statement_fraction=0.5, unpaired_fraction=0.5), 400)
    parts = [set(half[name]) for name in ("labelled", "paired", "unpaired")]
    assert [len(part) for part in parts] == [200, 100, 100]
    assert len(set.union(*parts)) == 400
    everything = split_images(Recipe(), 400)
    assert set(everything["labelled"]) == set(everything["paired"])


def test_a_merge_is_accounted_for(prepared):
    _, store, features = prepared
    reported = []
    recipe = RECIPE.replace(unpaired_fraction=0.5)
    result = run_cell("merged", recipe, features, store, reported.append)
    assert 0 <= result["accuracy"] <= 1
    assert set(result["accuracy_by_kind"]) == {"shape", "color", "yes or no"}
    assert [phase["name"] for phase in result["phases"]] == ["align", "fuse"]
    data, compute = result["data"], result["compute"]
    assert (data["labelled_images"], data["unpaired_contexts"], data["statements_of_labelled_images"]) == (
        10,
        15,
        False,
    )
    trained = sum(phase["flops"] for phase in result["phases"])
    texts = {text for part in ("train", "statements") for text in _texts(store, part, recipe)}
    once = 40 * features["context"]["flops_per_row"] + len(texts) * features["query"]["flops_per_row"]
    assert compute["flops"] == pytest.approx(trained + once)
    assert compute["flops_uncached"] == pytest.approx(
        trained + (2 * 32 + 2 * 16) * sum(features[side]["flops_per_row"] for side in ("context", "query"))
    )
    assert compute["peak_memory_mib"] >= compute["start_memory_mib"]
    assert reported[-1] == 1.0
    inference = result["inference"]
    assert 0 < inference["batch_32"]["rest_share"] < 1
    assert set(inference["questions_per_second_of_ten"]) == {"once", "anew"}


def test_alignment_without_labels_pays_for_its_features(prepared):
    _, store, features = prepared
    result = run_cell("statement_scoring", RECIPE, features, store)
    compute = result["compute"]
    assert compute["trainable"] > 0
    assert compute["feature_cpu_seconds"] > 0
    assert compute["flops"] - sum(phase["flops"] for phase in result["phases"]) == pytest.approx(
        30 * features["context"]["flops_per_row"]
        + len(set(_texts(store, "statements", RECIPE))) * features["query"]["flops_per_row"]
    )
    assert "inference" not in result


def _texts(store, part, recipe):
    rows = json.loads((store / encoding.ROWS).read_text())
    splits = split_images(recipe, 40)
    images = set(splits["labelled" if part == "train" else "paired"])
    columns = rows[part]
    return [text for text, image in zip(columns["text"], columns["image"], strict=True) if image in images]


def test_processes_resume_fail_and_refuse(prepared):
    root, _, _ = prepared
    suite, place = get_suite("easy-vqa"), Place(root / "results", root / "cache")
    cells = [make_cell("weight_average", RECIPE), make_cell("no_alignment", RECIPE.replace(shared_dim=30))]
    ran, failed = run_cells(suite, cells, place, progress=False)
    assert ran == cells[:1]
    (reason,) = failed.values()
    assert "shared_dim" in reason
    kept = root / "results" / "cells.jsonl"
    (record,) = Records(kept).read().values()
    assert (record["key"], record["settings"]) == (cells[0].key, cells[0].settings)
    assert "EfficientNetModel and a BertModel" in record["refused"]
    written = kept.stat().st_mtime_ns
    assert run_cells(suite, cells[:1], place, progress=False) == ([], {})
    assert kept.stat().st_mtime_ns == written
    assert run_cells(suite, cells[:1], place, again=True, progress=False) == (cells[:1], {})


def test_most_frequent_answer_by_hand(prepared, tmp_path):
    _, store, features = prepared
    task = easy_vqa.load_task(RECIPE, features, store, tmp_path)
    found = get_method("most_frequent")(task, RECIPE).predictions
    question = task.test.columns["query_features"][0]
    rows = zip(task.train.columns["query_features"], task.train.columns["labels"], strict=True)
    answers = [label for asked, label in rows if asked == question] or task.train.columns["labels"]
    assert answers.count(found[0].item()) == max(answers.count(answer) for answer in set(answers))
    assert found.dtype == torch.long


def test_reconstruction_error_by_kind_of_adapter(prepared, tmp_path):
    _, store, features = prepared
    task = easy_vqa.load_task(RECIPE, features, store, tmp_path)
    found = reconstruction_errors(task.build(RECIPE.replace(adapter_type="mlp")).otmerge, task)
    assert found == {"context": None, "query": None}
    # 112 image features fit into 128 dimensions, 384 text features do not
    found = reconstruction_errors(task.build(RECIPE.replace(adapter_type="orthogonal", shared_dim=128)).otmerge, task)
    assert found["context"] < 1e-10
    assert found["query"] is None
    model = task.build(RECIPE.replace(adapter_type="mlp", reconstruction_weight=1.0)).otmerge
    for parameter in model.query_adapter.decoder.parameters():  # always answers the mean
        torch.nn.init.zeros_(parameter)
    assert reconstruction_errors(model, task)["query"] == pytest.approx(1, abs=0.3)
