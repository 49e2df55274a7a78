"""DAQUAR (Malinowski and Fritz 2014): human questions about 1,449 indoor photographs of NYU Depth v2, official split.

In: a folder `daquar` with `questions_train.csv`, `questions_test.csv` and the same of the subset of 37 kinds of
objects, `questions_reduced37_...`: `question_id`, `image_id`, `file_name`, `question`, `answer`, `num_answers`,
`question_raw`. An answer may be a list, "book, scissor".
"""

from collections import Counter
from pathlib import Path

from ..runner.recipe import Recipe
from .folder import read_csv
from .photographs import Example, Labelled, make_task
from .task import Task


#: Subset -> the files' prefix, and whether questions whose answer is a list are left out, as the literature does.
SUBSETS = {
    "single": ("questions", True),
    "all": ("questions", False),
    "reduced37": ("questions_reduced37", True),
    "reduced37_all": ("questions_reduced37", False),
}


def read_daquar(data: Path, subset: str = "single") -> Labelled:
    """Read one subset.

    Answers are all of the training part, the most frequent first (equals in alphabetical order), a list as a whole;
    of the whole part, whatever is labelled: the number of answers is the same in every run.

    Args:
        data: Folder of the data sets.
        subset: `single` (answers of one word), `all`, `reduced37` (37 kinds of objects, one word), `reduced37_all`.

    Raises:
        ValueError: If there is no such subset.
        FileNotFoundError: If a file is missing.
    """
    if subset not in SUBSETS:
        raise ValueError(f"`subset` is {subset!r}; expected one of {', '.join(SUBSETS)}.")
    prefix, single = SUBSETS[subset]
    folder = data / "daquar"
    parts = {
        (start, part): read_csv(folder / f"{start}_{part}.csv")
        for start in ("questions", "questions_reduced37")
        for part in ("train", "test")
    }
    every = [row for rows in parts.values() for row in rows]
    train, test = (
        [
            Example(folder / row["file_name"], row["question"], row["answer"])
            for row in parts[prefix, part]
            if row["num_answers"] == "1" or not single
        ]
        for part in ("train", "test")
    )
    counts = Counter(row.answer for row in train)
    return Labelled(
        name="daquar",
        answers=sorted(counts, key=lambda answer: (-counts[answer], answer)),
        train=train,
        test=test,
        files=sorted({folder / row["file_name"] for row in every}),
        texts=list(dict.fromkeys(row["question"] for row in every)),
    )


def load_daquar(recipe: Recipe, data: Path, cache_dir: Path, scratch: Path, subset: str = "single") -> Task:
    """Questions about indoor photographs; `read_daquar` says which subsets there are.

    Test answers that no training question has get the label -100 and count as wrong; `references` keeps every answer
    as it is written.

    Args:
        recipe: What is labelled, paired and unpaired; encoders.
        data: Folder of the data sets.
        cache_dir: Where features are kept.
        scratch: For what does not last.
        subset: Which questions.
    """
    return make_task(read_daquar(data, subset), recipe, data, cache_dir, scratch)
