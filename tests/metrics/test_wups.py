"""WUPS by hand, on a WordNet of seven nouns, and against figures of DAQUAR."""

import csv
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from otmerge_hf.metrics import AnswerMetric, noun_similarity, wups
from otmerge_hf.metrics.wups import WORDNET


# noun -> its more general noun; depths are 1 (entity) to 4
ABOVE = {
    "entity": None, "object": "entity", "furniture": "object", "chair": "furniture", "table": "furniture",
    "idea": "entity", "plan": "idea",
}  # fmt: skip


def likeness(word, other):
    return {frozenset(("table", "desk")): 0.95, frozenset(("lamp", "desk")): 0.5}.get(frozenset((word, other)), 0.1)


@pytest.mark.parametrize(
    ("said", "true", "threshold", "score"),
    [
        ("table", "table", 0.9, 1.0),
        ("desk", "table", 0.9, 0.95),  # above the threshold: as it is
        ("desk", "lamp", 0.9, 0.05),  # below: a tenth, not zero
        ("desk", "lamp", 0.5, 0.5),
        ("desk", "lamp", 0.0, 0.5),
        ("lamp, table", "table,lamp", 0.9, 1.0),  # sets
        ("table, table", "table", 0.9, 1.0),
        ("table", "table, lamp", 0.9, 0.01),  # predicted: 1; true: 1 times a tenth of 0.1
        ("table, lamp", "table", 0.9, 0.01),
        ("desk", "table, lamp", 0.0, 0.475),  # predicted: 0.95; true: 0.95 times 0.5
        ("desk, desk", "table", 0.0, 0.9025),
    ],
)
def test_by_hand(said, true, threshold, score):
    assert wups([said], [true], threshold, likeness) == pytest.approx(score)


def test_mean_over_rows():
    assert wups(["table", "desk"], ["table", "lamp"], 0.9, likeness) == pytest.approx((1 + 0.05) / 2)


def test_similarity_looks_from_the_covered_word():
    """Of two senses' common ancestors nltk takes one or the other by who is asked first."""
    asked = []
    wups(["a"], ["b"], 0.0, lambda word, other: asked.append((word, other)) or 0.5)
    assert asked == [("a", "b"), ("b", "a")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], 0.9), "got 0 and 0"),
        ((["a"], ["a", "b"], 0.9), "got 1 and 2"),
        ((["a"], ["a"], 1.5), r"threshold must be in \[0, 1\]; got 1.5"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        wups(*arguments, likeness)


def test_missing_nltk_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ImportError, match=r"pip install 'otmerge-hf\[wups\]'"):
        noun_similarity("anywhere")


def test_missing_wordnet_names_the_folder(tmp_path):
    pytest.importorskip("nltk")
    with pytest.raises(FileNotFoundError, match=f"No WordNet at {tmp_path}"):
        noun_similarity(tmp_path)


@pytest.fixture
def wordnet(tmp_path):
    """Files in WordNet's format; plan is a second sense of table."""
    pytest.importorskip("nltk")
    for part in ("verb", "adj", "adv", "noun"):
        for name in (f"data.{part}", f"index.{part}", f"{part}.exc"):
            (tmp_path / name).write_text("")
    (tmp_path / "noun.exc").write_text("chaires chair\n")
    places, lines, start = {}, [], 0
    for noun, above in ABOVE.items():
        places[noun] = f"{start:08d}"
        pointer = f"001 @ {places[above]} n 0000" if above else "000"
        lines.append(f"{places[noun]} 03 n 01 {noun} 0 {pointer} | gloss\n")
        start += len(lines[-1])
    (tmp_path / "data.noun").write_text("".join(lines))
    senses = {noun: [place] for noun, place in places.items()}
    senses["table"].append(places["plan"])
    index = [f"{noun} n {len(found)} 0 {len(found)} 0 {' '.join(found)}\n" for noun, found in senses.items()]
    (tmp_path / "index.noun").write_text("".join(index))
    return tmp_path


@pytest.mark.parametrize(
    ("word", "other", "score"),
    [
        ("chair", "table", 2 * 3 / (4 + 4)),
        ("chair", "furniture", 2 * 3 / (4 + 3)),
        ("furniture", "chair", 2 * 3 / (3 + 4)),
        ("chair", "idea", 2 * 1 / (4 + 2)),
        ("table", "idea", 2 * 2 / (3 + 2)),  # by its second sense
        ("tables", "chaires", 2 * 3 / (4 + 4)),  # plurals, regular and not
        ("chair", "unheard", 0.0),
    ],
)
def test_wu_palmer_by_hand(wordnet, word, other, score):
    assert noun_similarity(wordnet)(word, other) == pytest.approx(score)


def test_metric_gives_the_function_s_numbers(wordnet, tmp_path):
    said, true = ["chair", "2", "idea, chair"], ["table", "2", "chair, idea"]
    metric = AnswerMetric(cache_dir=str(tmp_path))
    metric.add_batch(predictions=said[:1], references=true[:1])
    metric.add_batch(predictions=said[1:], references=true[1:])
    found = metric.compute(thresholds=(0.9, 0.5), wordnet=wordnet)
    assert found == pytest.approx({"accuracy": 2 / 3, "wups@0.9": (0.075 + 2) / 3, "wups@0.5": (0.75 + 2) / 3})


def test_accuracy_needs_no_wordnet(tmp_path):
    metric = AnswerMetric(cache_dir=str(tmp_path))
    assert metric.compute(predictions=["a", "b"], references=["a", "c"], thresholds=()) == {"accuracy": 0.5}


DATA = Path(os.environ.get("OTMERGE_DATA") or "absent") / "daquar"


@pytest.mark.skipif(not DATA.is_dir(), reason="OTMERGE_DATA names no folder with daquar")
@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="wordnet-base is not installed")
@pytest.mark.parametrize(
    ("words", "expected"), [(0, (5.56, 7.97, 29.68)), (4, (15.88, 22.03, 62.81))], ids=["majority", "first four words"]
)
def test_floors_of_daquar(words, expected, tmp_path):
    """Questions with answers of one word: the most frequent answer per so many first words of the question."""
    pytest.importorskip("nltk")
    train, test = ([row for row in csv.DictReader((DATA / f"questions_{part}.csv").open(encoding="utf-8"))
                    if row["num_answers"] == "1"] for part in ("train", "test"))  # fmt: skip

    def start(row):
        return tuple(row["question"].split()[:words])

    counts = defaultdict(Counter)
    for row in train:
        counts[start(row)][row["answer"]] += 1
        counts[None][row["answer"]] += 1
    said = [counts[start(row) if start(row) in counts else None].most_common(1)[0][0] for row in test]
    found = AnswerMetric(cache_dir=str(tmp_path)).compute(predictions=said, references=[row["answer"] for row in test])
    assert [round(100 * found[name], 2) for name in ("accuracy", "wups@0.9", "wups@0.0")] == list(expected)
