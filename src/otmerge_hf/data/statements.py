"""A question and its answer -> the sentence that they state together, for the usual forms of English questions."""

import re
from collections.abc import Callable

from . import english
from .english import PREPOSITIONS, head, is_plural, is_state, singular, third_person, with_article


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


def statement(question: str, answer: str) -> str:
    """Turn a question and its answer into the sentence that they assert together.

    Known are what/which (colour, shape, kind, thing), yes-or-no questions with `be`, `do`, `can`, `have` and with
    negation, how many, where and who. The sentence keeps the question's own words, in lower case without a full stop.

    Args:
        question: English, in one of these forms; a question mark and capitals do not matter.
        answer: A word or a few, of the kind that the question asks for.

    Raises:
        NoStatement: (a ValueError) If the form is not known, or the answer does not answer the question.

    Example:
        >>> statement("What color is the shape?", "blue"), statement("is there not a red shape?", "yes")
        ('the shape is blue', 'there is no red shape')

    Source: Song et al. 2022 ("CLIP Models are Few-shot Learners", ACL), who do this by templates from T5.
    """
    text, said = _plain(question), _plain(answer)
    for opening, reason in _OPEN:
        if re.match(opening, text):
            raise NoStatement(reason, question)
    if not said:
        raise NoStatement("answer must be a word or a few", answer)
    for pattern, expected, form in _FORMS:
        if (match := re.fullmatch(pattern, text)) is None:
            continue
        words = match.groupdict()
        kind = expected or _kind_asked(words)
        if kind not in english.kinds(said):
            article = "" if kind == "yes or no" else "a "
            raise NoStatement(f"answer to a question of this form must be {article}{kind}", f"{question} {answer}")
        if made := form(said, **words):
            return " ".join(made.split())
    raise NoStatement("question must be in one of the known English forms", question)


def _plain(text: str) -> str:
    text = re.sub(r"[?.!\s]+$", "", " ".join(text.lower().split()))
    for pattern, full in _SHORT_FORMS:
        text = re.sub(pattern, full, text)
    return text


def _kind_asked(words: dict[str, str | None]) -> str:
    """What a `what` question asks for."""
    x = words["x"] or ""
    asked = words["noun"] or (head(x) if x.startswith("the ") else "thing")
    if asked in ("color", "colour", "shape"):
        return "shape" if asked == "shape" else "color"
    return "number" if asked in english.NUMBER_NOUNS else "thing"


def _cut(text: str, verb: bool = False) -> tuple[str, str, str]:
    """Subject of a text, the first word of what is said of it, and the rest."""
    words = text.split()
    end = english.subject_length(words, verb)
    return " ".join(words[:end]), " ".join(words[end : end + 1]), " ".join(words[end + 1 :])


def _be(phrase: str, asked: str = "is") -> str:
    singular_form, plural_form = ("was", "were") if asked in ("was", "were") else ("is", "are")
    return plural_form if is_plural(phrase) else singular_form


# Forms: the answer and the named words of a pattern below -> the sentence, or "" where the question has no predicate.
# `x` is what a question says after its verb; spaces are put right by the caller.


def _color(answer: str, be: str, x: str) -> str:
    return f"{x} {be} {answer}"


def _value_of(answer: str, be: str, x: str) -> str:
    return f"{x} {_be(x, be)} {with_article(answer)}"


def _colored_thing(answer: str, be: str, x: str, noun: str) -> str:
    subject, verb, rest = _cut(x)
    return f"{subject} {be} {verb} {with_article(f'{answer} {noun}')} {rest}"


def _what_is(answer: str, be: str, x: str, noun: str | None, sort: str | None) -> str:
    words, thing = x.split(), with_article(answer)
    first, last = words[0], words[-1]
    if first in PREPOSITIONS:
        return f"there {_be(answer, be)} {thing} {x}"
    if is_state(first):
        return f"{thing} {_be(answer, be)} {x}"
    subject, verb, rest = _cut(x)
    if verb == "doing":
        return f"{subject} {be} {answer} {rest}"
    if last in PREPOSITIONS | {"of"} and len(words) > 1:
        return f"{x.replace(subject, f'{subject} {be}', 1)} {thing}"
    if verb in english.TAKE_OBJECT:
        return f"{subject} {be} {verb} {thing} {rest}"
    if last == "like":
        return f"{' '.join(words[:-1])} {be} {answer}"
    if noun and noun != "shape" and not sort and first in english.DETERMINERS and len(words) > 1:
        return f"the {noun} of {x} {be} {answer}"
    bare = be in ("are", "were") or head(x) in english.VALUE_NOUNS
    return f"{x} {be} {answer if bare else thing}"


def _what_does(answer: str, do: str, x: str, noun: str | None, sort: str | None) -> str:
    subject, verb, rest = _cut(x, verb=True)
    conjugated = third_person(verb) if do == "does" else verb if do == "do" else f"did {verb}"
    thing = answer if verb in ("say", "read", "mean", "cost") else with_article(answer)
    after = rest.split()[-1:] and rest.split()[-1] in PREPOSITIONS | {"like"}
    return f"{subject} {conjugated} {rest} {thing}" if after else f"{subject} {conjugated} {thing} {rest}"


def _seen(answer: str, x: str | None) -> str:
    return f"there {_be(answer)} {with_article(answer)} {x or ''}"


def _how_many(answer: str, things: str, x: str | None, be: str = "are", do: str | None = None) -> str:
    one, x = answer in ("1", "one"), x or ""
    count = f"{'no' if answer in ('0', 'zero', 'none') else answer} {singular(things) if one else things}"
    if do:
        subject, verb, rest = _cut(x, verb=True)
        return f"{subject} {third_person(verb) if do == 'does' else verb} {count} {rest}"
    verb = {"are": "is", "were": "was", "have": "has"}.get(be, be) if one else be
    if verb in ("is", "are", "was", "were") and (not x or x.split()[0] in PREPOSITIONS):
        return f"there {verb} {count} {x}"
    return f"{count} {verb} {x}"


def _where(answer: str, be: str, x: str) -> str:
    first = answer.split()[0]
    place = {"left": "on the left", "right": "on the right"}.get(answer, answer)
    if first not in PREPOSITIONS and answer not in ("here", "there", "home", "outdoors", "indoors", "upstairs"):
        place = f"in {answer}" if first in english.DETERMINERS else f"in the {answer}"
    subject, verb, rest = _cut(x)
    return f"{subject} {be} {verb} {rest} {place}" if is_state(verb) else f"{x} {be} {place}"


def _who(answer: str, be: str, x: str) -> str:
    person = r"(man|woman|boy|girl|child|person|baby|lady|guy|\w+(er|or|ist|man|woman))"
    who, first = with_article(answer) if re.fullmatch(rf"(.* )?{person}", answer) else answer, x.split()[0]
    return f"{who} {be} {x}" if first in PREPOSITIONS or is_state(first) else f"{x} {be} {who}"


def _there(answer: str, be: str, x: str, negated: str | None, article: str | None) -> str:
    if (answer == "yes") == (bool(negated) or article == "no"):
        quantity = r"(more|less|fewer|many|much|enough|several|exactly|only|at least|two|three|four|five|\d+|the)\b"
        return f"there {be} {'not' if re.match(quantity, x) else 'no'} {x}"
    kept = {"any": "", "some": "", "no": "a" if be in ("is", "was") else "", None: ""}.get(article, article)
    return f"there {be} {kept} {x}"


def _is(answer: str, be: str, x: str, negated: str | None) -> str:
    subject, verb, rest = _cut(x)
    if not verb:
        return ""
    first, _, thing = subject.partition(" ")
    positive = (answer == "yes") != (bool(negated) or first == "no" or verb == "not")
    predicate = rest if verb == "not" else f"{verb} {rest}"
    if subject in ("anyone", "someone"):
        return f"{'someone' if positive else 'no one'} {be} {predicate}"
    if first in ("a", "an", "any", "some", "no"):
        article = "some" if is_plural(thing) else {"no": "a", "any": "some"}.get(first, first)
        return f"{article if positive else 'no'} {thing} {be} {predicate}"
    return f"{subject} {be} {'' if positive else 'not'} {predicate}"


def _does(answer: str, aux: str, x: str, negated: str | None) -> str:
    subject, verb, rest = _cut(x.replace(" not ", " ", 1), verb=aux not in ("has", "have", "had"))
    if not verb:
        return ""
    if (answer == "yes") == (bool(negated) or " not " in x):
        return f"{subject} {aux} not {verb} {rest}"
    said = {"does": third_person(verb), "do": verb}.get(aux, f"{aux} {verb}")
    return f"{subject} {said} {rest.removeprefix('any ')}"


_BE, _NOT, _X = r"(?P<be>is|are|was|were)", r"(?P<negated>not )?", r"(?P<x>.+)"
_SEEN = r"(?:(?:do|can) (?:you|we|i) see|can be (?:seen|found))"
_WHAT = r"(?:what|which)(?: (?:(?P<sort>kind|type|sort|style)s? of )?(?P<noun>[\w ]+?))?"
# Pattern of the question, kind of its answer (None: as `_kind_asked` says), form of the sentence.
_FORMS: tuple[tuple[str, str | None, Callable[..., str]], ...] = (
    (rf"(?:what|which) colou?rs? {_BE} {_X}", "color", _color),
    (rf"what {_BE} the colou?rs? of {_X}", "color", _value_of),
    (rf"(?:what|which) colou?r (?P<noun>[\w ]+?) {_BE} {_X}", "color", _colored_thing),
    (rf"what {_BE} the shapes? of {_X}", "shape", _value_of),
    (rf"(?:what|which)(?: \w+)? can (?:be|you) (?:seen|found|see|find)(?: {_X})?", "thing", _seen),
    (rf"{_WHAT} (?P<do>does|do|did) (?P<x>.+ .+)", None, _what_does),
    (rf"{_WHAT} {_BE} {_X}", None, _what_is),
    (rf"how many (?P<things>.+?) {_BE} there(?: {_X})?", "number", _how_many),
    (rf"how many (?P<things>.+?) {_SEEN}(?: {_X})?", "number", _how_many),
    (rf"how many (?P<things>.+?) (?P<do>does|do) {_X}", "number", _how_many),
    (rf"how many (?P<things>.+?) (?P<be>is|are|was|were|have|has|can|will) {_X}", "number", _how_many),
    (rf"how many (?P<things>.+?)(?: (?P<x>(?:{'|'.join(PREPOSITIONS)}) .+))?", "number", _how_many),
    (rf"where {_BE} {_X}", "thing", _where),
    (rf"who {_BE} {_X}", "thing", _who),
    (rf"{_BE} there {_NOT}(?:(?P<article>an|a|any|no|some) )?{_X}", "yes or no", _there),
    (rf"{_BE} {_NOT}(?P<x>.+ .+)", "yes or no", _is),
    (rf"(?P<aux>do|does|did|can|could|will|would|should|has|have|had) {_NOT}(?P<x>.+ .+)", "yes or no", _does),
)
