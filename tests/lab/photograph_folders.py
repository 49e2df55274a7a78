"""Tiny folders with the layout and columns of Flickr8k, e-SNLI-VE on it and DAQUAR; a photograph is one colour."""

import csv
import json

from PIL import Image


ENTAILMENT_COLUMNS = ["pair_id", "image_id", "file_name", "hypothesis", "label", "explanation", "flickr8k_split"]
QUESTION_COLUMNS = ["question_id", "image_id", "file_name", "question", "answer", "num_answers", "question_raw"]
SHARED = ["p2.jpg", "p5.jpg"]  # photographs of Flickr8k that entailment is about


def write_folders(data):
    """10 photographs of Flickr8k (6, 2, 2); 6 + 3 of entailment, two of them Flickr8k's; 10 + 2 of DAQUAR."""
    for split, numbers in (("train", range(6)), ("validation", range(6, 8)), ("test", range(8, 10))):
        folder = data / "flickr8k" / split
        for number in numbers:
            _picture(folder / f"p{number}.jpg", number)
        lines = [{"file_name": f"p{n}.jpg", "captions": [f"the {n} shape {i}" for i in range(5)]} for n in numbers]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    _entailment(data / "esnlive_f8k")
    _questions(data / "daquar")
    return data


def _picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (shade * 9 % 256, 40, 200)).save(path)


def _table(path, columns, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *rows])


def _entailment(folder):
    files = {"validation": [SHARED[0], *(f"e{i}.jpg" for i in range(5))], "test": [SHARED[1], "e7.jpg", "e8.jpg"]}
    for part, names in files.items():
        rows = []
        for place, name in enumerate(names):
            _picture(folder / "images" / name, 20 + place)
            for label in ("contradiction", "entailment", "neutral"):
                text = f"there is, {label} {place}"
                rows.append([f"{name}#{label}", name[:-4], f"images/{name}", text, label, "so", "train"])
        _table(folder / f"pairs_{part}.csv", ENTAILMENT_COLUMNS, rows)


def _questions(folder):
    answers = {
        "train": ["table", "chair", "table", "chair", "table", "2", "lamp", "red", "red", "book, scissor"],
        "test": ["table", "sofa", "chair", "lamp, table"],  # no training question is answered by sofa
    }
    for part, given in answers.items():
        rows = []
        for place, answer in enumerate(given):
            name = f"image{place if part == 'train' else 100 + place // 2}"
            _picture(folder / "images" / part / f"{name}.jpg", 5 + place)
            question, count = f"what is the {place}", 1 + answer.count(",")
            file = f"images/{part}/{name}.jpg"
            rows.append([place, name, file, question, answer, count, f"{question} in the {name} ?"])
        _table(folder / f"questions_{part}.csv", QUESTION_COLUMNS, rows)
        _table(folder / f"questions_reduced37_{part}.csv", QUESTION_COLUMNS, rows[:5])
