"""As much English as statements need: kinds of answers, articles, numbers, and where a subject ends."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLORS = _words("""black white gray grey red green blue yellow orange purple pink brown beige tan teal turquoise gold
    golden silver maroon navy cream violet magenta cyan khaki olive ivory peach lavender blonde blond""")
# Colours that are things as well: "orange" may lie on a plate.
_COLORED_THINGS = _words("orange gold silver cream olive peach lavender")
_COLOR_MODIFIERS = _words("light dark bright pale deep and multicolored colorful")
SHAPES = _words("""circle rectangle triangle square oval octagon hexagon pentagon diamond star heart cube sphere
    cylinder cone ellipse cross arrow round rectangular triangular circular cylindrical""")
_ROUND = _words("square oval round rectangular triangular circular cylindrical")  # said without an article
_NUMBERS = _words("""zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty none many several few""")
PREPOSITIONS = _words("""in on at under above below behind beside besides between near next over around inside outside
    against by from with across along through to underneath beneath among opposite atop within off into onto left
    right""")
DETERMINERS = _words("a an the this that these those his her its their my your our some any no each every")
_PRONOUNS = _words("it he she they this that these those you we i there everyone anyone someone")
# Words that begin what is said of a subject, beside words in -ing and -ed.
STATES = _words("""made taken found kept hung shown seen written worn put hidden lit built born open closed empty full
    visible present asleep awake alive happy sad wet dry clean dirty on off ready very really too also both all
    currently being been not""")
TAKE_OBJECT = _words("""holding wearing eating playing riding carrying using drinking reading watching pulling pushing
    throwing hitting catching cooking cutting making driving touching showing selling feeding chasing walking""")
# Nouns whose value stands without an article ("the name of the shop is ..."), and those whose value is a number.
VALUE_NOUNS = _words("name time weather material brand gender number sport temperature date year word title age")
NUMBER_NOUNS = _words("number time year date temperature price age")
_NOUNS_IN_ING = _words("""building painting ceiling ring king string wing swing drawing railing thing clothing evening
    morning living dining wedding""")
_NOUNS_IN_ED = _words("bed shed red seed")
_VERBS = _words("""have has look appear seem contain show wear need like want eat drink play work match fit hold belong
    go run say use see read mean represent carry cover cost come stand sit lie hang make know swim fly move feel smell
    live""")
_MASS = _words("""water food grass snow sand wood metal plastic glass paper pizza bread rice fruit cheese meat chicken
    fish tennis baseball soccer football basketball frisbee wine beer coffee tea milk juice furniture luggage traffic
    hair clothing jewelry concrete brick dirt mud ice leather cotton nothing something everything""")
_IRREGULAR = dict(people="person", men="man", women="woman", children="child", feet="foot", teeth="tooth")
_SINGULAR_IN_S = _words("bus gas lens tennis glass grass dress cactus canvas christmas news")


def kinds(answer: str) -> set[str]:
    """Kinds of question that an answer may answer: "orange" those for a color and for a thing."""
    words = set(answer.split())
    if answer in ("yes", "no"):
        return {"yes or no"}
    if words <= _NUMBERS or re.fullmatch(r"\d[\d.,:]*( ?[ap]m|\+)?", answer):
        return {"number"}
    if words & COLORS and words <= COLORS | _COLOR_MODIFIERS:
        return {"color", "thing"} if words <= _COLORED_THINGS else {"color"}
    return {"shape", "thing"} if words <= SHAPES else {"thing"}


def head(phrase: str) -> str:
    """Noun that a phrase is about: "chair" in "red chair of the man"."""
    words = phrase.split()
    end = next((i for i, word in enumerate(words) if i and word in PREPOSITIONS | {"of", "and"}), len(words))
    return words[end - 1]


def is_plural(phrase: str) -> bool:
    """Whether a noun phrase wants "are"; "bus" and "glass" do not."""
    noun = head(phrase)
    if " and " in phrase or noun in _IRREGULAR:
        return True
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is")) and noun not in _SINGULAR_IN_S


def singular(phrase: str) -> str:
    """The phrase with its noun in the singular: "two red boxes" have one "red box"."""
    noun = head(phrase)
    if not is_plural(phrase):
        return phrase
    one = _IRREGULAR.get(noun) or re.sub(r"(?<=x|h)es$|(?<=ss)es$|s$", "", re.sub(r"ies$", "ys", noun))
    return re.sub(rf"\b{re.escape(noun)}\b", one, phrase, count=1)


def with_article(phrase: str) -> str:
    """`a` or `an` where a noun phrase wants one: "an owl", "a red car", "water"."""
    first, noun = phrase.split()[0], head(phrase)
    gerund = noun.endswith("ing") and noun not in _NOUNS_IN_ING
    bare = first in DETERMINERS | _NUMBERS | PREPOSITIONS or first[0].isdigit() or noun in _MASS | COLORS | _ROUND
    if bare or gerund or is_plural(phrase):
        return phrase
    vowel = re.match(r"[aeio]|u(?!ni|s[eu]|te)|hour|honest", phrase) and not re.match(r"one|eu", phrase)
    return f"{'an' if vowel else 'a'} {phrase}"


def third_person(verb: str) -> str:
    """The verb after he, she or it: "contains", "has", "carries"."""
    if verb in ("have", "has"):
        return "has"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|sh|ch|x|z|o)$", verb) else "s")


def is_state(word: str) -> bool:
    """Whether a word can begin what is said of a subject: "wearing", "parked", "open"."""
    in_ing = word.endswith("ing") and len(word) > 4 and word not in _NOUNS_IN_ING
    in_ed = word.endswith("ed") and len(word) > 3 and word not in _NOUNS_IN_ED
    return in_ing or in_ed or word in STATES


def subject_length(words: list[str], verb: bool = False) -> int:
    """How many of the words are the subject; the rest is said of it: 5 in "the man on the left wearing a hat".

    With `verb` the rest begins with a plain verb: 2 in "the image contain a circle".
    """
    after = words[1] if len(words) > 1 else ""
    begins = after in DETERMINERS | PREPOSITIONS or is_state(after) or (verb and after in _VERBS)
    if words[0] in _PRONOUNS and (words[0] not in DETERMINERS or len(words) < 3 or begins):
        return 1
    first = 2 if words[0] in DETERMINERS else 1
    places = [i for i in range(first, len(words)) if words[i - 1] not in DETERMINERS | COLORS]
    if verb:
        return next((i for i in places if words[i] in _VERBS), min(first, len(words)))
    strong = [i for i in places if is_state(words[i]) and words[i] not in PREPOSITIONS]
    last = len(words) - 1
    if last in places and words[last] in COLORS | STATES and words[last - 1] not in PREPOSITIONS:
        strong.append(last)
    weak = [i for i in places if words[i] in PREPOSITIONS | DETERMINERS]
    return min(strong, default=min(weak, default=max(last, first)))
