"""Tiny made-up files with the column names and types of well-known Hub data sets, three rows each."""

import io
import json
import tarfile

from datasets import Dataset
from PIL import Image


ROWS = range(3)


def picture(row):
    return Image.new("RGB", (64, 48), (80 * row, 40, 200))


def flickr30k(row, **more):
    captions = [f"A thing {row}, said in way {way}." for way in ROWS for _ in (0, 1)][:5]
    names = {"sentids": [str(i) for i in range(5)], "img_id": str(row), "filename": f"{row}.jpg"}
    return {"image": picture(row), "caption": captions, **names, **more}


def coco(row):
    return {"filepath": "val2014", "filename": f"{row}.jpg", "imgid": row, "split": "train", "cocoid": row}


# Hub name -> files, and a row of each.
PARQUET = {
    "lmms-lab/flickr30k": {"test": flickr30k},
    "umaru97/flickr30k_train_val_test": {"train": lambda row: flickr30k(row, split="train")},
    "bitmind/MS-COCO-unique": {
        "train": lambda row: {
            "image": picture(row),
            **coco(row),
            "sentids": [row],
            "sentences": {"tokens": ["a", "dog"], "raw": f"A dog {row}.", "imgid": row, "sentid": row},
        }
    },
    "yerevann/coco-karpathy": {
        "train": lambda row: {
            **coco(row),
            "sentids": list(range(5)),
            "sentences": ["A dog."] * 5,
            "url": f"http://example.invalid/{row}.jpg",
        }
    },
    "lmms-lab/VQAv2": {
        "validation": lambda row: {
            "question_type": "what color",
            "multiple_choice_answer": "red",
            "answers": [{"answer": "red", "answer_confidence": "yes", "answer_id": i} for i in range(10)],
            "image_id": row,
            "answer_type": "other",
            "question_id": row,
            "question": f"what color is thing {row}?",
            "image": picture(row),
        }
    },
    "Multimodal-Fatima/SNLI-VE_train": {
        "train": lambda row: {
            "image": picture(row),
            "filename": f"{row}.jpg",
            "premise": f"p {row}",
            "hypothesis": f"h {row}",
            "label": row,
            "id": row,
            "id_image": row,
        }
    },
    "google-research-datasets/conceptual_captions": {
        "train": lambda row: {"image_url": f"http://example.invalid/{row}.jpg", "caption": f"thing {row}"}
    },
    "TIGER-Lab/NLVR2": {
        "test": lambda row: {
            "id": f"nlvr2_{row}",
            "question_type": "multi-choice",
            "question": f"s {row}",
            "images": [picture(row), picture(row)],
            "options": ["True", "False"],
            "answer": "A",
            "data_source": "NLVR2",
            "category": "",
        }
    },
    "lmms-lab/GQA": {
        "train_balanced_images": lambda row: {"id": str(row), "image": picture(row)},
        "train_balanced_instructions": lambda row: {
            "id": f"q{row}",
            "imageId": str(row),
            "question": f"is it {row}?",
            "answer": "yes",
            "fullAnswer": "Yes, it is.",
            "isBalanced": True,
        },
    },
}


def write(name, folder):
    """Write the files of a data set into a folder, and return it."""
    folder.mkdir()
    if name == "pixparse/cc3m-wds":  # a WebDataset: files of one stem in a tar are a row
        with tarfile.open(folder / "cc3m-train-0000.tar", "w") as archive:
            for row in ROWS:
                pixels = io.BytesIO()
                picture(row).save(pixels, "JPEG")
                parts = {"jpg": pixels.getvalue(), "txt": f"thing {row}".encode()}
                for kind, data in (parts | {"json": json.dumps({"key": row}).encode()}).items():
                    about = tarfile.TarInfo(f"{row:09}.{kind}")
                    about.size = len(data)
                    archive.addfile(about, io.BytesIO(data))
        return folder
    for file, make in PARQUET[name].items():
        Dataset.from_list([make(row) for row in ROWS]).to_parquet(folder / f"{file}.parquet")
    return folder
