"""Answers in words -> WUPS, an accuracy that gives part of the credit to a noun of nearly the same meaning."""

import io
import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any


WORDNET = Path("/usr/share/wordnet")  # of Debian's package `wordnet-base`
_BELOW = 0.1  # weight of a similarity below the threshold
Similarity = Callable[[str, str], float]


def wups(
    predictions: Sequence[str], references: Sequence[str], threshold: float, similarity: Similarity | None = None
) -> float:
    r"""Wu-Palmer similarity of predicted to true answers, thresholded and averaged over rows.

    $$ \frac1N \sum_i \min\Big\{ \prod_{a \in A_i} \max_{t \in T_i} \mu(a, t),\;
       \prod_{t \in T_i} \max_{a \in A_i} \mu(t, a) \Big\} $$

    where $\mu$ is 1 for equal words, else the similarity, times 0.1 where it is below the threshold.

    Args:
        predictions: N answers; one that is a list has commas: "book, scissor".
        references: The N true ones.
        threshold: In [0, 1]; the literature reports 0.9 and 0.0.
        similarity: Of two different words, in [0, 1]; that of [`noun_similarity`] by default.

    Returns:
        Score in [0, 1]; with a similarity that is always 0, the accuracy of answers as sets.

    Raises:
        ValueError: If there are no rows, the columns differ in length, or the threshold is out of range.
        ImportError, FileNotFoundError: As [`noun_similarity`], if no similarity is given.

    Example:
        >>> wups(["table", "book, lamp"], ["desk", "lamp, book"], 0.9, lambda a, b: 0.8)
        0.54

    Source: Malinowski and Fritz 2014 (NIPS), who call it the WUPS score; accuracy uses equality in its place.
    """
    if not len(predictions) == len(references) > 0:
        raise ValueError(f"expected as many predictions as references; got {len(predictions)} and {len(references)}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1]; got {threshold!r}")
    likeness = noun_similarity() if similarity is None else similarity

    def mu(word: str, other: str) -> float:
        if word == other:
            return 1.0
        found = likeness(word, other)
        return found if found >= threshold else _BELOW * found

    def covered(words: list[str], others: list[str]) -> float:
        return math.prod(max(mu(word, other) for other in others) for word in words)

    total = 0.0
    for pair in zip(predictions, references, strict=True):
        said, true = ([word.strip() for word in answer.split(",")] for answer in pair)
        total += min(covered(said, true), covered(true, said))
    return total / len(predictions)


@cache
def noun_similarity(folder: str | Path = WORDNET) -> Similarity:
    """Wu-Palmer similarity of the two nearest noun senses of two words; 0 where a word is no noun.

    Args:
        folder: WordNet's files `data.noun`, `index.noun` and so on, as in Debian's package `wordnet-base`.

    Raises:
        ImportError: If nltk is not installed.
        FileNotFoundError: If the folder has no `data.noun`.
    """
    try:
        import nltk
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError as error:
        raise ImportError("WUPS needs nltk: pip install 'otmerge-hf[wups]'") from error
    root = Path(folder).resolve()
    if not (root / "data.noun").is_file():
        raise FileNotFoundError(
            f"No WordNet at {folder}: install Debian's wordnet-base, or name a folder of its files."
        )

    class Reader(WordNetCorpusReader):  # type: ignore[misc]
        def open(self, file: str) -> Any:
            if file == "lexnames":  # names of lexicographers' files, which Debian leaves out and no similarity reads
                return io.StringIO("".join(f"{number} unnamed 1\n" for number in range(45)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:  # for other languages, and needs nltk's own data
            return None

    if str(root) not in nltk.data.path:
        nltk.data.path.append(str(root))  # nltk reads below these folders only
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")
        reader = Reader(str(root), None)

    @cache
    def similarity(word: str, other: str) -> float:
        senses, others = reader.synsets(word, "n"), reader.synsets(other, "n")
        return max((one.wup_similarity(two) for one in senses for two in others), default=0.0)

    return similarity
