"""Rows of three parts name the features of what is distinct, and the features are standardised once."""

import pytest
import torch

from otmerge_hf.data import PairSplit, encode_questions
from otmerge_hf.data.answers import Answers
from otmerge_hf.data.pair_splits import without_images
from otmerge_hf.data.questions import Questions, QuestionSplits


@pytest.fixture
def splits(images):
    first = Questions(images[:2], ["what ?", "color ?"], [0, 1, 1], [0, 1, 0], [("red",), ("blue",), ("red",)])
    second = Questions(images[2:3], ["color ?", "is it ?"], [0, 0], [1, 0], [("blue",), ("green",)])
    return QuestionSplits(first, second, second, Answers.of(first.answers))


def test_rows_name_what_is_distinct(merge, processor, splits, images, tmp_path):
    model = merge(id2label=splits.answers.id2label)
    rows = encode_questions(model, processor, splits, cache_dir=tmp_path, progress=False)
    assert len(rows.context_store) == 4  # two, one and one: an image of two parts counts twice
    assert len(rows.query_store) == 3
    assert rows.train["context_features"][:] == [0, 1, 1]
    assert rows.test["context_features"][:] == [3, 3]
    assert rows.validation["query_features"][:] == [2, 1]
    assert rows.train["labels"][:] == [0, 1, 0]
    assert rows.validation["labels"][:] == [1, -100]  # nobody answers "green" in training
    batch = rows.collator([rows.train[2], rows.validation[0]])
    raw = processor(images=[images[1], images[2]], text=["what ?", "is it ?"], padding=True, return_tensors="pt")
    model.eval()
    with torch.no_grad():
        labels = batch.pop("labels")
        torch.testing.assert_close(model(**batch).logits, model(**raw).logits, atol=1e-5, rtol=1e-5)
    assert labels.tolist() == [0, 1]


def test_features_are_standardised_by_the_training_part_and_once(merge, processor, splits, tmp_path):
    model = merge(id2label=splits.answers.id2label)
    rows = encode_questions(model, processor, splits, cache_dir=tmp_path, progress=False)
    standardizer = model.otmerge.context_standardizer
    mean, _ = rows.context_store.statistics([0, 1])
    assert torch.equal(standardizer.mean, mean)
    standardizer.mean.fill_(7.0)
    encode_questions(model, processor, splits, cache_dir=tmp_path, progress=False)
    assert (standardizer.mean == 7).all()  # its adapters were learnt with it


def test_other_answers_are_refused(merge, processor, splits, tmp_path):
    with pytest.raises(ValueError, match=r"has 2 answers .* and `splits` 2 .*\*\*splits.answers.config"):
        encode_questions(merge(id2label={0: "a", 1: "b"}), processor, splits, cache_dir=tmp_path)


def test_captions_of_the_same_images_are_left_out_by_content_and_by_name(tmp_path, images):
    paths, other = [], images[0].rotate(90).resize((20, 20))
    for name, image in zip(("photograph-17.png", "1.png", "other-name.png"), images, strict=True):
        image.save(tmp_path / name)
        paths.append(tmp_path / name)
    (tmp_path / "again").mkdir()
    other.save(tmp_path / "again" / "photograph-17.png")  # other content, a telling name
    images[2].save(tmp_path / "again" / "copied.png")  # another name, the same content
    other.save(tmp_path / "again" / "1.png")  # anybody's name
    split = PairSplit(paths, ["a", "b", "c"], torch.tensor([[0, 0], [1, 1], [2, 2], [2, 0]]))
    rest, count = without_images(split, sorted((tmp_path / "again").iterdir()))
    assert count == 2
    assert rest.pairs.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("texts", "asks"),
    [
        (["what ?", "color ?"], True),
        (["what is on the desk", "How many chairs are there"], True),
        (["A man walks .", "an island in the sea"], False),
    ],
)
def test_questions_are_told_from_statements_with_and_without_their_mark(splits, images, texts, asks):
    part = Questions(images[:1], texts, [0, 0], [0, 1], [("red",), ("blue",)])
    assert QuestionSplits(part, part, part, splits.answers).asks is asks
