"""`otmerge check` prints what a table holds, and answers by its exit code; its mistakes are in tests/data."""

import argparse

import pytest

from otmerge_hf import cli
from otmerge_hf.commands import _arguments
from otmerge_hf.data import check_questions, load_questions
from tests.data.question_folders import check, questions, write_csv, write_pictures, write_questions


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def test_prints_parts_answers_spellings_and_ceilings(capsys, tmp_path):
    write_pictures(tmp_path, 20)
    rows = [
        (name, text, answer.capitalize() if n % 2 else answer) for n, (name, text, answer) in enumerate(questions(12))
    ]
    write_csv(tmp_path / "train.csv", [*rows, ("1.png", "is it red?", "no.")])
    write_csv(tmp_path / "test.csv", [*questions(2, 12), ("14.png", "what is it?", "violet")])
    code, out, lines = check(capsys, tmp_path)
    report, splits = check_questions(tmp_path), load_questions(tmp_path)
    assert (code, lines) == (0, [])
    assert out == f"{report}\n"
    assert out.splitlines()[1:4] == [
        f"train: {splits.train}", f"validation: {splits.validation}", f"test: {splits.test}"
    ]  # fmt: skip
    assert "Answers: 5 (single), most frequent 'no' " in out
    assert "Best accuracy that these answers allow: validation 1.000, test 0.800" in out
    (ways,) = [line for line in out.splitlines() if line.startswith("Written in several ways, counted as one: ")]
    assert all(f"'{way}'" in ways for way in ("No", "no.", "Yes", "yes"))
    assert "'violet'" not in ways
    note = "Note: 1 of 5 rows of test have none of the 5 answers that training gives ('violet', say)"
    assert f"{note}; accuracy is at most 0.800" in out
    assert out.endswith("No bad rows.\n")


def test_flags_reach_the_rows(capsys, tmp_path):
    write_pictures(tmp_path / "pictures", 20)
    rows = [(name, "x y z", text, "|".join([answer] * 4), "t") for name, text, answer in questions(20)]
    write_csv(tmp_path / "tables" / "a.csv", rows, ("image", "text", "ask", "said", "sort"), delimiter=";")
    words = ["--image-folder", tmp_path / "pictures", "--question-column", "ask", "--answer-column", "said"]
    words += ["--answer-separator", "|", "--delimiter", ";", "--kind-column", "sort", "--kind-column", "text"]
    words += [
        "--train-split",
        "a[:30]",
        "--test-split",
        "a[30:]",
        "--top-answers",
        "3",
        "--no-normalize",
        "--seed",
        "3",
    ]
    code, out, _ = check(capsys, tmp_path / "tables", *words)
    assert code == 0
    assert out.startswith("Columns: image 'image', question 'ask', answer 'said', kinds sort, text\n")
    assert "Answers: 3 (votes)" in out
    assert "test: 10 rows, 5 images" in out


def test_arguments_are_named_by_their_flags():
    parser = argparse.ArgumentParser()
    _arguments.add_question_arguments(parser)
    told = cli.name_flags("`top`: top of 'image_column' in /x/test_split.csv; pass skip_bad, not a `word`", parser)
    assert told == "--top-answers: top of 'image_column' in /x/test_split.csv; pass --skip-bad, not a `word`"
    assert cli.name_flags("`normalize`", parser) == "--normalize"


def test_options_are_those_of_load_questions(tmp_path):
    """Whatever a command takes can be given on as it is."""
    parser = argparse.ArgumentParser()
    _arguments.add_question_arguments(parser)
    options = _arguments.question_options(parser.parse_args(["--data", "unused"]))
    assert load_questions(write_questions(tmp_path), **options).answers.names
