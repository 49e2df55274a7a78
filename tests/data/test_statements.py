"""The rule that makes statements: a table of questions as DAQUAR and VQA ask them, and easy-VQA's own grammar."""

import re

import pytest

from otmerge_hf.data import answer_names, load_easy_vqa, statement
from otmerge_hf.data.easy_vqa import COLORS, SHAPES
from otmerge_hf.data.english import singular, third_person, with_article
from otmerge_hf.data.statements import NoStatement


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        # colours and shapes
        ("what color is the car?", "red", "the car is red"),
        ("What colour are the chairs ?", "Dark Brown", "the chairs are dark brown"),
        ("which color is the wall", "white", "the wall is white"),
        ("what is the color of the books?", "blue", "the books are blue"),
        ("what color shirt is the man wearing?", "orange", "the man is wearing an orange shirt"),
        ("what shape is the sign?", "octagon", "the sign is an octagon"),
        ("what is the shape of the plates?", "round", "the plates are round"),
        # what is
        (
            "what is on the right side of the black telephone and on the left side of the red chair ?",
            "desk",
            "there is a desk on the right side of the black telephone and on the left side of the red chair",
        ),
        (
            "what is the object on the floor in front of the wall ?",
            "carpet",
            "the object on the floor in front of the wall is a carpet",
        ),
        (
            "what is found below the window in the image ?",
            "garbage bin",
            "a garbage bin is found below the window in the image",
        ),
        ("what is on the desk?", "books", "there are books on the desk"),
        ("what's on the bed?", "pillows", "there are pillows on the bed"),
        ("what are the things on the table?", "bottles", "the things on the table are bottles"),
        ("what is hanging on the wall?", "picture", "a picture is hanging on the wall"),
        ("what is the man in the red shirt holding?", "umbrella", "the man in the red shirt is holding an umbrella"),
        ("what is the woman wearing on her head?", "hat", "the woman is wearing a hat on her head"),
        ("what is the man doing?", "skiing", "the man is skiing"),
        ("what is the cat sitting on?", "couch", "the cat is sitting on a couch"),
        ("what is the table made of?", "wood", "the table is made of wood"),
        ("what is the weather like?", "sunny", "the weather is sunny"),
        ("what is the name of the store?", "walmart", "the name of the store is walmart"),
        ("what is this?", "cat", "this is a cat"),
        ("what are these?", "sheep", "these are sheep"),
        # what thing is, does, can be seen
        ("what animal is this?", "elephant", "this is an elephant"),
        ("what kind of dog is this?", "poodle", "this is a poodle"),
        ("what type of food is on the plate?", "pizza", "there is pizza on the plate"),
        ("which object is on the chair?", "pillow", "there is a pillow on the chair"),
        ("what sport is the man playing?", "tennis", "the man is playing tennis"),
        ("what sport is being played?", "tennis", "tennis is being played"),
        ("what material is the table?", "wood", "the material of the table is wood"),
        ("what time is it?", "10:30", "it is 10:30"),
        ("what number is on the jersey?", "17", "there is 17 on the jersey"),
        ("what does the sign say?", "stop", "the sign says stop"),
        ("what does the man have in his hand?", "phone", "the man has a phone in his hand"),
        ("what can be seen behind the window?", "tree", "there is a tree behind the window"),
        # how many
        ("how many chairs are there?", "4", "there are 4 chairs"),
        ("how many people are in the room?", "1", "there is 1 person in the room"),
        ("how many red boxes are there on the shelf?", "one", "there is one red box on the shelf"),
        ("how many dogs can you see in the picture?", "2", "there are 2 dogs in the picture"),
        ("how many legs does the table have?", "3", "the table has 3 legs"),
        ("how many people are wearing hats?", "0", "no people are wearing hats"),
        ("how many windows in the room?", "none", "there are no windows in the room"),
        # where and who
        ("where is the cat?", "on the couch", "the cat is on the couch"),
        ("where is the cat?", "kitchen", "the cat is in the kitchen"),
        ("where is the lamp?", "left", "the lamp is on the left"),
        ("where was this picture taken?", "zoo", "this picture was taken in the zoo"),
        ("who is wearing glasses?", "man", "a man is wearing glasses"),
        ("who is this?", "obama", "this is obama"),
        # yes or no
        ("is the man wearing a hat?", "yes", "the man is wearing a hat"),
        ("is the man on the left wearing a hat?", "no", "the man on the left is not wearing a hat"),
        ("is the plate with food white?", "yes", "the plate with food is white"),
        ("is it raining?", "no", "it is not raining"),
        ("is this a kitchen?", "yes", "this is a kitchen"),
        ("is this man happy?", "no", "this man is not happy"),
        ("isn't the dog brown?", "no", "the dog is brown"),
        ("is no cat present?", "no", "a cat is present"),
        ("is anyone on the couch?", "no", "no one is on the couch"),
        ("are there any people in the photo?", "no", "there are no people in the photo"),
        ("are there any people in the photo?", "yes", "there are people in the photo"),
        ("are there two cats?", "no", "there are not two cats"),
        ("does the man have any hair?", "yes", "the man has hair"),
        ("does the man have a beard?", "no", "the man does not have a beard"),
        ("does the dog not like the cat?", "yes", "the dog does not like the cat"),
        ("does this look like a kitchen?", "yes", "this looks like a kitchen"),
        ("do the shoes match?", "yes", "the shoes match"),
        ("can the dog swim?", "no", "the dog can not swim"),
        ("has the food been eaten?", "yes", "the food has been eaten"),
    ],
)
def test_usual_questions(question, answer, expected):
    assert statement(question, answer) == expected


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("why is the man sad?", "tired", "a `why` question is open"),
        ("Describe the image.", "a dog", "a question, not a request"),
        ("how old is the boy?", "7", "other than `how many`"),
        ("quelle est la couleur du chat ?", "noir", "known English forms"),
        ("welche Farbe hat das Auto?", "rot", "known English forms"),
        ("猫は何色ですか", "黒", "known English forms"),
        ("", "yes", "known English forms"),
        ("is red?", "yes", "known English forms"),
        ("what color is the car?", " ", "a word or a few"),
        ("what color is the car?", "2", "must be a color"),
        ("what is the red shape?", "blue", "must be a shape"),
        ("how many dogs are there?", "red", "must be a number"),
        ("what is on the table?", "yes", "must be a thing"),
        ("what is on the table?", "red", "must be a thing"),
        ("where is the dog?", "3", "must be a thing"),
        ("is he tall?", "maybe", "must be yes or no"),
    ],
)
def test_refusals_say_why(question, answer, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        statement(question, answer)
    assert isinstance(refused.value, NoStatement)
    assert question not in refused.value.reason or not question  # a reason is shared by many questions


# easy-VQA's own grammar, as it was written for its 107 wordings alone.
WHAT_SHAPE = {
    "what shape is in the image?": "there is a {} in the image",
    "what shape is present?": "a {} is present",
    "what shape does the image contain?": "the image contains a {}",
}
YES_NO = (
    (
        r"is there (?P<negated>not )?a (?P<thing>[\w ]+?)(?P<where> in the image)?\?",
        ("there is a {thing}{where}", "there is no {thing}{where}"),
    ),
    (
        r"does the image (?P<negated>not )?contain a (?P<thing>[\w ]+?)\?",
        ("the image contains a {thing}", "the image does not contain a {thing}"),
    ),
    (
        r"is (?:(?P<negated>no)|a) (?P<thing>[\w ]+?) present\?",
        ("a {thing} is present", "no {thing} is present"),
    ),
)


def easy_vqa_statement(question, answer):
    if match := re.fullmatch(r"what (?:color is|is the color of) the (\w+)\?", question):
        return f"the {match[1]} is {answer}" if answer in COLORS else None
    if match := re.fullmatch(r"what is the (\w+) shape\?", question):
        return f"the {match[1]} shape is a {answer}" if answer in SHAPES else None
    if question in WHAT_SHAPE:
        return WHAT_SHAPE[question].format(answer) if answer in SHAPES else None
    for pattern, (present, absent) in YES_NO:
        if match := re.fullmatch(pattern, question):
            if answer not in ("yes", "no"):
                return None
            words = {name: text or "" for name, text in match.groupdict().items()}
            return (present if (answer == "yes") != bool(match["negated"]) else absent).format(**words)
    raise AssertionError(question)


def test_every_question_and_every_answer_of_easy_vqa():
    pytest.importorskip("easy_vqa")
    questions = {question for split in ("train", "test") for question in load_easy_vqa(split)["question"]}
    made = 0
    for question in questions:
        for answer in answer_names():
            expected = easy_vqa_statement(question, answer)
            made += expected is not None
            try:
                assert statement(question, answer) == expected
            except NoStatement:
                assert expected is None
    assert (len(questions), made) == (107, 273)


def test_small_grammar():
    assert [with_article(n) for n in ("hour", "one way sign", "unicorn", "painting", "two dogs", "in front")] == [
        "an hour",
        "one way sign",
        "a unicorn",
        "a painting",
        "two dogs",
        "in front",
    ]
    assert [singular(n) for n in ("boxes of fruit", "glasses", "berries", "men", "bus", "horses")] == [
        "box of fruit",
        "glass",
        "berry",
        "man",
        "bus",
        "horse",
    ]
    assert [third_person(verb) for verb in ("carry", "play", "watch", "go", "have")] == [
        "carries",
        "plays",
        "watches",
        "goes",
        "has",
    ]
