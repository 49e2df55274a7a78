"""Answers in words and ten people's answers -> the official accuracy of visual question answering (VQA v2)."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any


_MARKS = re.compile(r'[];/["{}()=+\\_><@`,?!-]')  # neither the apostrophe (girl's) nor the colon (2:50 pm)
_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_NUMBERS = "zero one two three four five six seven eight nine ten"
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# Word -> what it becomes. One apostrophe is put back, never two; "somebodyd" is the published table's own slip.
_WORDS = (
    {form[: gap.start()] + form[gap.end() :]: form for form in _CONTRACTED.split() for gap in re.finditer("'", form)}
    | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
    | {"none": "0", "a": "", "an": "", "the": "", "somebody'd": "somebodyd"}
)


def _tidy(answer: str) -> str:
    if not isinstance(answer, str):
        raise ValueError(f"answer must be a string; got {answer!r}")
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalize_answer(answer: str) -> str:
    """One spelling of an answer: lower case, digits, no articles, no punctuation, apostrophes where they belong.

    A mark becomes a space; it becomes nothing where the answer has that mark beside a space, or a number with a comma.
    Periods go unless a digit follows; apostrophes and colons stay.

    Raises:
        ValueError: If it is no string.

    Example:
        >>> [normalize_answer(answer) for answer in ("The t-shirt.", "two dogs", "100,978", "dont", "2:50 pm")]
        ['t shirt', '2 dogs', '100978', "don't", '2:50 pm']

    Source: the rules of visualqa.org/evaluation, as its published evaluator (GT-Vision-Lab/VQA) carries them out.
    """
    return _normalize(_tidy(answer))


def _normalize(text: str) -> str:
    if marks := set(_MARKS.findall(text)):
        number = "," in marks and _COMMA.search(text)
        gone = {mark for mark in marks if number or f"{mark} " in text or f" {mark}" in text}
        text = text.translate({ord(mark): "" if mark in gone else " " for mark in marks})
    if "." in text:
        text = _PERIOD.sub("", text, count=32)  # the published call gives the flag re.UNICODE, 32, as the count
    words = text.lower().split()
    if not _WORDS.keys().isdisjoint(words):  # most answers have no such word
        words = [new for word in words if (new := _WORDS.get(word, word))]
    return " ".join(words)


def _score(matches: int, count: int) -> float:
    """Mean of min(matches / 3, 1) over the `count` sets that leave one answer out."""
    return (matches * min(matches - 1, 3) + (count - matches) * min(matches, 3)) / (3 * count)


def _check(name: str, answers: Sequence[str]) -> None:
    if isinstance(answers, str) or len(answers) < 4:  # of whom three are left when one is left out
        raise ValueError(f"{name} must be a list of four or more people's answers; got {answers!r}")


def soft_scores(answers: Sequence[str], normalize: bool = True) -> dict[str, float]:
    """Score of each distinct answer of one question, as a soft target: min(matches / 3, 1), one person left out.

    Args:
        answers: What people said, ten in VQA v2, at least four.
        normalize: Whether to count by `normalize_answer`. [`vqa_scores`] keeps answers that all agree as they are.

    Returns:
        Answer -> score in [0, 1]; with ten people 0.3, 0.6, 0.9 and 1 for one, two, three and more who say so.

    Raises:
        ValueError: If there are fewer than four answers, or one is no string.

    Example:
        >>> soft_scores(["yes"] * 7 + ["Yes "] + ["no"] * 2)
        {'yes': 1.0, 'no': 0.6}

    Source: Goyal et al. 2017; Teney et al. 2018 for soft targets.
    """
    _check("answers", answers)
    counts = Counter(map(normalize_answer if normalize else _tidy, answers))
    return {answer: _score(count, len(answers)) for answer, count in counts.items()}


def vqa_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Official score of each predicted answer, in [0, 1]; arguments and errors as [`vqa_accuracy`].

    Prediction and answers are normalised only where people's answers differ: where all agree they may be text read
    in the image. There "T-shirt" is not "t-shirt".
    """
    if not len(predictions) == len(references) > 0:
        raise ValueError(f"expected as many predictions as references; got {len(predictions)} and {len(references)}")
    normal = lru_cache(2**17)(_normalize)  # answers repeat; bounded, for data where none do
    scores = []
    for row, (said, answers) in enumerate(zip(predictions, references, strict=True)):
        _check(f"references[{row}]", answers)
        said, others = _tidy(said), list(map(_tidy, answers))
        if len(set(others)) > 1:
            said, others = normal(said), list(map(normal, others))
        scores.append(_score(others.count(said), len(others)))
    return scores


def vqa_accuracy(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    answer_types: Sequence[str] | None = None,
    question_types: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Official accuracy of visual question answering: mean over people left out of min(others who said so / 3, 1).

    Args:
        predictions: N answers.
        references: For each, people's answers: ten in VQA v2, at least four.
        answer_types, question_types: N names ("yes/no", ...; "how many", ...), for the accuracy of each.

    Returns:
        `accuracy` in [0, 1] and, where asked, `per_answer_type` and `per_question_type`: name -> accuracy.

    Raises:
        ValueError: If there are no rows, columns differ in length, people are fewer than four, or answers no strings.

    Example:
        >>> vqa_accuracy(["Yes", "2"], [["yes"] * 9 + ["no"], ["two", "2"] + ["3"] * 8], ["yes/no", "number"])
        {'accuracy': 0.8, 'per_answer_type': {'number': 0.6, 'yes/no': 1.0}}

    Source: Antol et al. 2015 (ICCV); Goyal et al. 2017 (CVPR), VQA v2. Its evaluator prints percents.
    """
    scores = vqa_scores(predictions, references)
    result: dict[str, Any] = {"accuracy": fmean(scores)}
    for name, types in (("answer_type", answer_types), ("question_type", question_types)):
        if types is None:
            continue
        if len(types) != len(scores):
            raise ValueError(f"{name}s must have one name a prediction, {len(scores)}; got {len(types)}")
        rows = defaultdict(list)
        for kind, score in zip(types, scores, strict=True):
            rows[kind].append(score)
        result[f"per_{name}"] = {kind: fmean(rows[kind]) for kind in sorted(rows, key=str)}
    return result
