"""The official accuracy of VQA v2, read slowly: letter by letter, person by person, from its published description.

An oracle for `otmerge_hf.metrics.vqa_accuracy`, and the plain loop that its speed is compared with.
Source: Antol et al. 2015; Goyal et al. 2017; visualqa.org/evaluation.
"""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean


# Where the apostrophe is missing (a dot) in the published table; one entry follows no pattern.
MISSING = """
ain.t aren.t can.t couldn.t didn.t doesn.t don.t hadn.t hasn.t haven.t isn.t mightn.t mustn.t needn.t oughtn.t shan.t
shouldn.t wasn.t weren.t won.t wouldn.t could.ve might.ve must.ve not.ve should.ve they.ve we.ve what.ve where.ve
who.ve would.ve you.ve he.d how.d it.d someone.d something.d there.d they.d where.d who.d you.d how.ll it.ll
somebody.ll someone.ll something.ll they.ll what.ll who.ll why.ll you.ll he.s how.s somebody.s someone.s that.s there.s
what.s when.s where.s who.s why.s there.re they.re what.re why.re you.re ma.am o.clock .twas y.all
couldn.t've couldn't.ve hadn.t've hadn't.ve mightn.t've mightn't.ve shouldn.t've shouldn't.ve wouldn.t've wouldn't.ve
he.d've he'd.ve it.d've it'd.ve she.d've she'd.ve somebody.d've somebody'd.ve someone.d've someone'd.ve something.d've
something'd.ve there.d've there'd.ve they.d've they'd.ve we.d've we'd.ve who.d've who'd.ve you.d've you'd.ve
y.all'll y'all.ll y.all'd've y'all.d've y'all'd.ve .ow's'at 'ow.s'at 'ow's.at
"""
CONTRACTIONS = {word.replace(".", ""): word.replace(".", "'") for word in MISSING.split()}
CONTRACTIONS["somebody'd"] = "somebodyd"
NUMBERS = dict(none=0, zero=0, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10)
MARKS = ';/[]"{}()=+\\_-><@`,?!'


def strip(text: str) -> str:
    """Without white space around it; lines and tabs are spaces."""
    return "".join(" " if letter in "\n\t" else letter for letter in text).strip()


def without_periods(text: str) -> str:
    """Without the first 32 periods that no digit follows."""
    kept, gone = "", 0
    for place, letter in enumerate(text):
        if letter == "." and not text[place + 1 : place + 2].isdecimal() and gone < 32:
            gone += 1
        else:
            kept += letter
    return kept


def slow_normal(text: str) -> str:
    """One spelling of an answer."""
    text = cleaned = strip(text)
    triples = [text[place : place + 3] for place in range(len(text) - 2)]
    comma = any(one[0].isdecimal() and one[1] == "," and one[2].isdecimal() for one in triples)
    for mark in MARKS:
        pairs = {text[place : place + 2] for place in range(len(text) - 1)}
        beside_a_space = f"{mark} " in pairs or f" {mark}" in pairs
        cleaned = cleaned.replace(mark, "" if beside_a_space or comma else " ")
    words = []
    for word in without_periods(cleaned).lower().split():
        if word in NUMBERS:
            words.append(str(NUMBERS[word]))
        elif word not in {"a", "an", "the"}:
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


def slow_score(said: str, answers: Sequence[str]) -> float:
    """Mean over the people left out."""
    said, answers = strip(said), [strip(answer) for answer in answers]
    if any(answer != answers[0] for answer in answers):
        said, answers = slow_normal(said), [slow_normal(answer) for answer in answers]
    return fmean(min(1, sum(one == said for one in some) / 3) for some in combinations(answers, len(answers) - 1))
