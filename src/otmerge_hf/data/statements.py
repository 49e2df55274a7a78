"""A question and its answer -> the sentence that they state together, for the usual forms of English questions."""

import re
from collections.abc import Callable

from .english import (
    DETERMINERS,
    NUMBER_NOUNS,
    PREPOSITIONS,
    TAKE_OBJECT,
    VALUE_NOUNS,
    head,
    is_plural,
    is_state,
    kinds,
    singular,
    subject_length,
    third_person,
    with_article,
)


class NoStatement(ValueError):
    """A question and an answer that make no statement; `reason` says why, in words that many questions share."""

    def __init__(self, reason: str, got: str):
        super().__init__(f"{reason}; got {got!r}")
        self.reason = reason


_SHORT_FORMS = ((r"\b(what|where|who|which|there|it)'s\b", r"\1 is"), (r"n't\b", " not"), (r"\bca not\b", "can not"))
_OPEN = (
    (r"why\b", "a `why` question is open: a word or two do not state its answer"),
    (r"(describe|explain|tell|name|list)\b", "question must be a question, not a request"),
    (r"how (?!many\b)", "`how` questions other than `how many` make no statement"),
)
_BE = r"(?P<be>is|are|was|were)"
_QUANTITY = re.compile(
    r"(more|less|fewer|many|much|enough|several|exactly|only|at least|two|three|four|five|\d+|the)\b"
)


def statement(question: str, answer: str) -> str:
    """Turn a question and its answer into the sentence that they assert together.

    Known are what/which (colour, shape, kind, thing), yes-or-no questions with `be`, `do`, `can`, `have` and with
    negation, how many, where and who. The sentence keeps the question's own words; it is meant for a text encoder.

    Args:
        question: English, in one of these forms; a question mark and capitals do not matter.
        answer: A word or a few, of the kind that the question asks for.

    Returns:
        A lower-case sentence without a full stop.

    Raises:
        NoStatement: (a ValueError) If the form is not known, or the answer does not answer the question.

    Example:
        >>> statement("What color is the shape?", "blue")
        'the shape is blue'
        >>> statement("is there not a red shape in the image?", "yes")
        'there is no red shape in the image'

    Source: Song et al. 2022 ("CLIP Models are Few-shot Learners", ACL), who do this by templates from T5.
    """
    text, said = _plain(question), _plain(answer)
    for opening, reason in _OPEN:
        if re.match(opening, text):
            raise NoStatement(reason, question)
    if not said:
        raise NoStatement("answer must be a word or a few", answer)
    for pattern, expected, form in _FORMS:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        kind = expected(match) if callable(expected) else expected
        if kind not in kinds(said):
            article = "" if kind == "yes or no" else "a "
            raise NoStatement(f"answer to a question of this form must be {article}{kind}", f"{question} {answer}")
        return " ".join(form(match, said).split())
    raise NoStatement("question must be in one of the known English forms", question)


def _plain(text: str) -> str:
    text = re.sub(r"[?.!\s]+$", "", " ".join(text.lower().split()))
    for pattern, full in _SHORT_FORMS:
        text = re.sub(pattern, full, text)
    return text


def _cut(text: str, verb: bool = False) -> tuple[str, str]:
    """Subject of a text, and what is said of it."""
    words = text.split()
    end = subject_length(words, verb)
    return " ".join(words[:end]), " ".join(words[end:])


def _be(phrase: str, asked: str = "is") -> str:
    past = asked in ("was", "were")
    return ("were" if past else "are") if is_plural(phrase) else ("was" if past else "is")


def _color(match: re.Match, answer: str) -> str:
    return f"{match['x']} {match['be']} {answer}"


def _colored_thing(match: re.Match, answer: str) -> str:
    subject, predicate = _cut(match["x"])
    verb, _, rest = predicate.partition(" ")
    thing = with_article(f"{answer} {match['noun']}")
    return f"{subject} {match['be']} {verb} {thing} {rest}"


def _kind(match: re.Match) -> str:
    """What a `what` question asks for."""
    asked = match.groupdict().get("noun") or head(match["x"] if match["x"].startswith("the ") else "thing")
    if asked in ("color", "colour", "shape"):
        return "shape" if asked == "shape" else "color"
    return "number" if asked in NUMBER_NOUNS else "thing"


def _what_is(match: re.Match, answer: str) -> str:
    x, be, noun, thing = match["x"], match["be"], match["noun"], with_article(answer)
    first, words = x.split()[0], x.split()
    if first in PREPOSITIONS:
        return f"there {_be(answer, be)} {thing} {x}"
    if is_state(first):
        return f"{thing} {_be(answer, be)} {x}"
    subject, predicate = _cut(x)
    verb, _, rest = predicate.partition(" ")
    if verb == "doing":
        return f"{subject} {be} {answer} {rest}"
    if words[-1] in PREPOSITIONS | {"of"} and len(words) > 1:
        return f"{x.replace(subject, f'{subject} {be}', 1)} {thing}"
    if verb in TAKE_OBJECT:
        return f"{subject} {be} {verb} {thing} {rest}"
    if words[-1] == "like":
        return f"{' '.join(words[:-1])} {be} {answer}"
    if noun and first in DETERMINERS and len(words) > 1 and not match["sort"] and noun != "shape":
        return f"the {noun} of {x} {be} {answer}"
    bare = be in ("are", "were") or head(x) in VALUE_NOUNS
    return f"{x} {be} {answer if bare else thing}"


def _value_of(match: re.Match, answer: str) -> str:
    return f"{match['x']} {_be(match['x'], match['be'])} {with_article(answer)}"


def _what_does(match: re.Match, answer: str) -> str:
    subject, predicate = _cut(match["x"], verb=True)
    verb, _, rest = predicate.partition(" ")
    conjugated = third_person(verb) if match["do"] == "does" else verb if match["do"] == "do" else f"did {verb}"
    thing = answer if verb in ("say", "read", "mean", "cost") else with_article(answer)
    last = rest.split()[-1:] or [""]
    if last[0] in PREPOSITIONS | {"like"}:
        return f"{subject} {conjugated} {rest} {thing}"
    return f"{subject} {conjugated} {thing} {rest}"


def _seen(match: re.Match, answer: str) -> str:
    return f"there {_be(answer)} {with_article(answer)} {match['x'] or ''}"


def _how_many(match: re.Match, answer: str) -> str:
    groups = match.groupdict()
    one = answer in ("1", "one")
    things = singular(match["things"]) if one else match["things"]
    count = f"{'no' if answer in ('0', 'zero', 'none') else answer} {things}"
    if groups.get("do"):
        subject, predicate = _cut(match["x"], verb=True)
        verb, _, rest = predicate.partition(" ")
        return f"{subject} {third_person(verb) if match['do'] == 'does' else verb} {count} {rest}"
    verb, x = groups.get("be") or "are", groups.get("x") or ""
    verb = {"are": "is", "were": "was", "have": "has"}.get(verb, verb) if one else verb
    if verb in ("is", "are", "was", "were") and (not x or x.split()[0] in PREPOSITIONS):
        return f"there {verb} {count} {x}"
    return f"{count} {verb} {x}"


def _where(match: re.Match, answer: str) -> str:
    first = answer.split()[0]
    place = {"left": "on the left", "right": "on the right"}.get(answer, answer)
    if first not in PREPOSITIONS and answer not in ("here", "there", "home", "outdoors", "indoors", "upstairs"):
        place = f"in {answer}" if first in DETERMINERS else f"in the {answer}"
    subject, predicate = _cut(match["x"])
    if not predicate or not is_state(predicate.split()[0]):
        return f"{match['x']} {match['be']} {place}"
    return f"{subject} {match['be']} {predicate} {place}"


def _who(match: re.Match, answer: str) -> str:
    x, be = match["x"], match["be"]
    person = r"(man|woman|boy|girl|child|person|baby|lady|guy|\w+(er|or|ist|man|woman))"
    who = with_article(answer) if re.fullmatch(rf"(.* )?{person}", answer) else answer
    return f"{who} {be} {x}" if x.split()[0] in PREPOSITIONS or is_state(x.split()[0]) else f"{x} {be} {who}"


def _there(match: re.Match, answer: str) -> str:
    article, be, x = match["article"] or "", match["be"], match["x"]
    positive = (answer == "yes") != (bool(match["negated"]) or article == "no")
    if not positive:
        return f"there {be} {'not' if _QUANTITY.match(x) else 'no'} {x}"
    article = {"any": "", "some": "", "no": "a" if be in ("is", "was") else ""}.get(article, article)
    return f"there {be} {article} {x}"


def _is(match: re.Match, answer: str) -> str:
    subject, predicate = _cut(match["x"])
    be, first = match["be"], subject.split()[0]
    if not predicate:
        raise NoStatement("question must be in one of the known English forms", match[0])
    negated = bool(match["negated"]) or first == "no" or predicate.startswith("not ")
    predicate = predicate.removeprefix("not ")
    positive, rest = (answer == "yes") != negated, " ".join(subject.split()[1:])
    if subject in ("anyone", "someone"):
        return f"{'someone' if positive else 'no one'} {be} {predicate}"
    if first in ("a", "an", "any", "some", "no"):
        article = {"no": "a", "any": "some"}.get(first, first) if not is_plural(rest) else "some"
        return f"{article if positive else 'no'} {rest} {be} {predicate}"
    return f"{subject} {be} {'' if positive else 'not'} {predicate}"


def _does(match: re.Match, answer: str) -> str:
    aux, text = match["aux"], match["x"]
    negated = bool(match["negated"]) or " not " in text
    subject, predicate = _cut(text.replace(" not ", " ", 1), verb=aux not in ("has", "have", "had"))
    if not predicate:
        raise NoStatement("question must be in one of the known English forms", match[0])
    if (answer == "yes") == negated:
        return f"{subject} {aux} not {predicate}"
    verb, _, rest = predicate.partition(" ")
    rest = re.sub(r"^any ", "", rest)
    if aux in ("does", "do"):
        return f"{subject} {third_person(verb) if aux == 'does' else verb} {rest}"
    return f"{subject} {aux} {verb} {rest}"


_NOT = r"(?P<negated>not )?"
_SEEN = r"(?:(?:do|can) (?:you|we|i) see|can be (?:seen|found))"
_SORT = r"(?:(?P<sort>kind|type|sort|style)s? of )?"
_FORMS: list[tuple[re.Pattern, str | Callable[[re.Match], str], Callable[[re.Match, str], str]]] = [
    (re.compile(pattern), kind, form)
    for pattern, kind, form in (
        (rf"(?:what|which) colou?rs? {_BE} (?P<x>.+)", "color", _color),
        (rf"what {_BE} the colou?rs? of (?P<x>.+)", "color", _value_of),
        (rf"(?:what|which) colou?r (?P<noun>[\w ]+?) {_BE} (?P<x>.+)", "color", _colored_thing),
        (rf"what {_BE} the shapes? of (?P<x>.+)", "shape", _value_of),
        (r"(?:what|which)(?: \w+)? can (?:be|you) (?:seen|found|see|find)(?: (?P<x>.+))?", "thing", _seen),
        (rf"(?:what|which)(?: {_SORT}(?P<noun>[\w ]+?))? (?P<do>does|do|did) (?P<x>.+ .+)", _kind, _what_does),
        (rf"(?:what|which)(?: {_SORT}(?P<noun>[\w ]+?))? {_BE} (?P<x>.+)", _kind, _what_is),
        (rf"how many (?P<things>.+?) {_BE} there(?: (?P<x>.+))?", "number", _how_many),
        (rf"how many (?P<things>.+?) {_SEEN}(?: (?P<x>.+))?", "number", _how_many),
        (r"how many (?P<things>.+?) (?P<do>does|do) (?P<x>.+)", "number", _how_many),
        (r"how many (?P<things>.+?) (?P<be>is|are|was|were|have|has|can|will) (?P<x>.+)", "number", _how_many),
        (rf"how many (?P<things>.+?)(?: (?P<x>(?:{'|'.join(PREPOSITIONS)}) .+))?", "number", _how_many),
        (rf"where {_BE} (?P<x>.+)", "thing", _where),
        (rf"who {_BE} (?P<x>.+)", "thing", _who),
        (rf"{_BE} there {_NOT}(?:(?P<article>an|a|any|no|some) )?(?P<x>.+)", "yes or no", _there),
        (rf"{_BE} {_NOT}(?P<x>.+ .+)", "yes or no", _is),
        (rf"(?P<aux>do|does|did|can|could|will|would|should|has|have|had) {_NOT}(?P<x>.+ .+)", "yes or no", _does),
    )
]
