"""What is said beside the scores of a training."""

import pytest
import torch

from otmerge_hf.training.growth import Growth, Shares
from otmerge_hf.training.linear_fit import LinearFit
from otmerge_hf.training.merge_result import MergeResult


def result(merged, words, kept=("query",), rows=100):
    fit = LinearFit({}, torch.zeros(2), dict.fromkeys(kept, 1.0), {"bias": 0.7, "query": 0.6})
    return MergeResult(
        model=None,
        processor=None,
        growth=Growth(fit, 0.6, 0.6, Shares(0.0, 1.0), 0, ()),
        measure="accuracy",
        scores={"most frequent answer": 0.2, "words only, linear": words, "merged": merged},
        ceiling=1.0,
        counts={"validation": {"rows": 28}, "test": {"rows": rows}},
        alignment=None,
        pseudo_labels=0,
        seconds={},
        settings={},
    )


@pytest.mark.parametrize(
    ("merged", "words", "said"),
    [
        (0.6, 0.5, []),
        (
            0.5,
            0.5,
            ["The merge is no better than the words alone, though on 100 rows 0.098 either way may be chance."],
        ),
        (0.3, 0.6, ["The merge is no better than the words alone."]),
    ],
)
def test_no_gain_over_the_words_is_said(merge, merged, words, said):
    made = result(merged, words)
    made.model = merge()
    assert made.warnings == said
    assert all(line in str(made) for line in said)
    assert "(each row stands on the kept rows above it" in str(made)


def test_that_nothing_was_learnt_is_said():
    (line,) = result(0.2, 0.2, kept=()).warnings
    assert line.startswith("Nothing was learnt but how often each answer occurs: the 28 validation rows gain by")
