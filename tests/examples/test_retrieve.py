"""`examples/retrieve.py` on a tiny merge that knows which colour a word is."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.alignment import Ridge


SCRIPT = Path(__file__).parents[2] / "examples" / "retrieve.py"
COLORS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("retrieve_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, monkeypatch, tmp_path, capsys):
    def call(**options):
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["retrieve.py", "--cache_dir", str(tmp_path / "features"), *words])
        code = script.main()
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err.splitlines()

    return call


@pytest.fixture
def saved(tmp_path, merge, processor, images):
    """`saved(cls)`: a merge whose ridge carries three words onto three pictures exactly, on disk."""

    def save(cls=OTMergeModel):
        model = merge(cls=cls, shared_dim=16, adapter_type="linear")
        base = getattr(model, "otmerge", model)
        with torch.no_grad():
            pixels = processor(images=images, return_tensors="pt")["pixel_values"]
            words = processor(text=COLORS, return_tensors="pt")
            context, _ = base.encode("context", {"pixel_values": pixels}, None, None)
            mask = words["attention_mask"]
            query, _ = base.encode("query", {"input_ids": words["input_ids"]}, mask, None)
        means = context.mean(1), (query * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        base.load_alignment(Ridge(alpha=1e-4).fit(*means))
        model.save_pretrained(tmp_path / "merge")
        processor.save_pretrained(tmp_path / "merge")
        return tmp_path / "merge"

    return save


@pytest.fixture
def pictures(tmp_path, images):
    folder = tmp_path / "pictures" / "deeper"
    folder.mkdir(parents=True)
    for color, image in zip(COLORS, images, strict=True):
        image.save(folder / f"{color}.png")
    (folder / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


@pytest.mark.parametrize("cls", [OTMergeModel, OTMergeForQuestionAnswering])
def test_text_finds_its_picture_first(run, saved, pictures, tmp_path, cls):
    folder = saved(cls)
    for color in COLORS:
        code, lines, _ = run(model=folder, images=pictures, query=color, output=tmp_path / "out" / "grid.png")
        assert code == 0
        assert lines[0].split()[2].endswith(f"{color}.png")
        scores = [float(line.split()[1]) for line in lines[:3]]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > 0.9
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        assert grid.size == (3 * 160, 178)
        assert grid.getpixel((80, 80)) == (0, 0, 255), "the best match is drawn first: blue was asked last"


@pytest.mark.parametrize("embedded", [False, True])
def test_text_searches_a_data_set(run, saved, pictures, tmp_path, embedded):
    paths = sorted(pictures.rglob("*.png"))
    rows = [{"bytes": path.read_bytes(), "path": None} if embedded else str(path) for path in paths]
    file = tmp_path / "data" / "train.parquet"
    file.parent.mkdir()
    Dataset.from_dict({"picture": rows}).cast_column("picture", ImageFeature()).to_parquet(file)
    for source in (file, file.parent):
        code, lines, errors = run(model=saved(), images=source, query="green", top_k=1, output=tmp_path / "grid.png")
        assert code == 0, errors
        assert lines[0].endswith("image 1" if embedded else "green.png")
        assert lines[1].startswith("Grid: ")


def test_picture_finds_its_caption_first(run, saved, pictures, tmp_path):
    (tmp_path / "captions.txt").write_text("blue\n\n  red \ngreen\nred\n")
    for color in COLORS:
        code, lines, _ = run(
            model=saved(), image=pictures / "deeper" / f"{color}.png", texts=tmp_path / "captions.txt", top_k=9
        )
        assert code == 0
        assert len(lines) == 3
        assert lines[0].split()[2] == color


def test_bad_input_is_one_line_and_code_2(run, saved, pictures, tmp_path):
    model, red = saved(), pictures / "deeper" / "red.png"
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    for options, message in (
        ({"query": "red"}, "--query needs --images"),
        ({"image": red}, "--image needs --texts"),
        ({}, "one of the three"),
        ({"query": "red", "image": red}, "one of the three"),
        ({"query": "red", "images": pictures, "top_k": 0}, "--top_k is 0"),
        ({"query": "red", "images": tmp_path / "gone.parquet"}, "no such file or folder"),
        ({"query": "red", "images": tmp_path / "empty"}, "empty"),
        ({"query": " ", "images": pictures}, "empty"),
        ({"image": red, "texts": tmp_path / "empty.txt"}, "has no text"),
        ({"image": broken, "texts": SCRIPT}, "broken.png"),
        ({"image": tmp_path / "gone.png", "texts": SCRIPT}, "gone.png"),
    ):
        code, _, errors = run(model=model, **options)
        assert code == 2, options
        assert errors[-1].startswith("error: "), errors
        assert message in errors[-1]
    assert run(model=tmp_path / "nowhere", query="red", images=pictures)[0] == 2
