"""Visual entailment on photographs of Flickr8k: e-SNLI-VE (Kayser et al. 2021; labels of Do et al. 2020).

In: a folder `esnlive_f8k` with `pairs_validation.csv` and `pairs_test.csv`: `pair_id`, `image_id`, `file_name`,
`hypothesis`, `label`, `explanation`, `flickr8k_split`. The first is learnt from, for the training part is on other
photographs; no photograph is in both.
"""

from pathlib import Path

from ..runner.recipe import Recipe
from .folder import read_csv
from .photographs import Example, Labelled, make_task
from .task import Task


ANSWERS = ["entailment", "neutral", "contradiction"]


def load_esnlive_f8k(recipe: Recipe, data: Path, cache_dir: Path, scratch: Path) -> Task:
    """Whether a photograph entails a hypothesis; its photographs are left out of Flickr8k's pairs by file name.

    Args:
        recipe: What is labelled, paired and unpaired; encoders.
        data: Folder of the data sets.
        cache_dir: Where features are kept.
        scratch: For what does not last.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    return make_task(read_esnlive_f8k(data), recipe, data, cache_dir, scratch)


def read_esnlive_f8k(data: Path) -> Labelled:
    """The rows as the files in the folder `data` have them; FileNotFoundError if one is missing."""
    folder = data / "esnlive_f8k"
    train, test = (
        [Example(folder / row["file_name"], row["hypothesis"], row["label"]) for row in read_csv(folder / file)]
        for file in ("pairs_validation.csv", "pairs_test.csv")
    )
    every = [*train, *test]
    files, texts = sorted({row.file for row in every}), list(dict.fromkeys(row.text for row in every))
    return Labelled("esnlive_f8k", ANSWERS, train, test, files, texts)
