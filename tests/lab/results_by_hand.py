"""Results as cells write them, made by hand: accuracies and seconds that a test can sum in the head."""

import pytest

from otmerge_hf.baselines import Recipe
from otmerge_hf.suites import Cell


@pytest.fixture
def result():
    def make(method, seed=0, accuracy=0.5, fraction=1.0, cpu=10.0, **choices):
        cell = Cell(method, Recipe(seed=seed, label_fraction=fraction, **choices))
        merged = method not in ("joint", "most_frequent")
        return {
            "key": cell.key,
            "settings": cell.settings,
            "machine": {"threads": 1},
            "accuracy": accuracy,
            "test_questions": 1000,
            "data": {"labels": 386, "pairs": 3000 if method == "merged" else 0, "unpaired_contexts": 0, "guessed": 0},
            "compute": {
                "cpu_seconds": cpu,
                "feature_cpu_seconds": 5.0 if merged else 0.0,
                "flops": 1e12,
                "flops_uncached": 2e12,
                "trainable": 12345,
                "peak_memory_mib": 600.0 if merged else 3000.0,
                "start_memory_mib": 500.0,
                "feature_peak_memory_mib": 700.0 if merged else None,
                "feature_start_memory_mib": 450.0 if merged else None,
            },
            "phases": [],
        }

    return make
