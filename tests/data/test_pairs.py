import json
from pathlib import Path

import hub_schemas
import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Picture

from otmerge_hf.data import ImageInputs, load_pairs, load_source, split_names


COLORS = ("red", "green", "blue", "black")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def pictures(folder, colors=COLORS):
    folder.mkdir(parents=True, exist_ok=True)
    for color in colors:
        Picture.new("RGB", (8, 8), color).save(folder / f"{color}.png")
    return folder


def embedded(paths):
    """Images as parquet files of the Hub hold them: bytes, no file."""
    return [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]


def image_folder(folder, captions):
    """An imagefolder of two splits; `captions` has lists: one line of metadata per caption."""
    for split in ("train", "test"):
        pictures(folder / split)
        lines = [f'{color}.png,"{text}",{color}' for color, texts in captions.items() for text in texts]
        (folder / split / "metadata.csv").write_text("\n".join(["file_name,text,kind", *lines]) + "\n")
    return folder


def colors_of(pairs):
    names = {(255, 0, 0): "red", (0, 128, 0): "green", (0, 0, 255): "blue", (0, 0, 0): "black"}
    return [names[image.convert("RGB").getpixel((0, 0))] for image in pairs["image"]]


def test_imagefolder_with_several_captions_per_image(tmp_path):
    captions = {"red": ["a red square", "red"], "green": ["a green square"], "blue": ["blue", "a sky"]}
    folder = image_folder(tmp_path / "data", captions)
    pairs = load_pairs(folder, "test")
    assert pairs.column_names == ["image", "text", "group"]
    assert isinstance(pairs.features["image"], Image)
    assert list(zip(colors_of(pairs), pairs["text"], pairs["group"], strict=True)) == [
        ("red", "a red square", 0),
        ("red", "red", 0),
        ("green", "a green square", 1),
        ("blue", "blue", 2),
        ("blue", "a sky", 2),
    ]
    assert sorted(split_names(folder)) == ["test", "train"]


def test_filters_keep_rows_that_meet_all_of_them(tmp_path):
    folder = image_folder(tmp_path / "data", {color: [color] for color in COLORS})
    assert load_pairs(folder, filters=["kind!=red"])["text"][:] == ["green", "blue", "black"]
    assert load_pairs(folder, filters=["kind!=red", "text!=black"])["text"][:] == ["green", "blue"]
    assert load_pairs(folder, filters=["kind=red"])["group"][:] == [0]
    with pytest.raises(ValueError, match="no pair is left in split 'train': 0 of 4 rows met the filters"):
        load_pairs(folder, filters=["kind=mauve"])
    with pytest.raises(ValueError, match=r"filter names column 'sort'; the columns are .*kind"):
        load_pairs(folder, filters=["sort=red"])
    with pytest.raises(ValueError, match=r"COLUMN=VALUE or COLUMN!=VALUE; got 'kind>red'"):
        load_pairs(folder, filters=["kind>red"])


CAPTIONS = {
    "list": ("caption", List(Value("string")), [["red", "rot"], ["green"], ["blue", "", "blau"]]),
    "records": (
        "sentences",
        List({"raw": Value("string"), "sentid": Value("int32")}),
        [
            [{"raw": "red", "sentid": 0}, {"raw": "rot", "sentid": 1}],
            [{"raw": "green", "sentid": 2}],
            [{"raw": "blue", "sentid": 3}, {"raw": "blau", "sentid": 4}],
        ],
    ),
}


@pytest.mark.parametrize("kind", CAPTIONS)
@pytest.mark.parametrize("image_column", ["image", "jpg"])
def test_parquet_with_embedded_images_and_nested_captions(tmp_path, kind, image_column):
    column, feature, values = CAPTIONS[kind]
    paths = [pictures(tmp_path) / f"{color}.png" for color in COLORS[:3]]
    data = {image_column: embedded(paths), column: values}
    features = Features({image_column: Image(), column: feature})
    Dataset.from_dict(data, features=features).to_parquet(tmp_path / "pairs.parquet")
    pairs = load_pairs(tmp_path / "pairs.parquet")
    assert pairs["text"][:] == ["red", "rot", "green", "blue", "blau"]
    assert pairs["group"][:] == [0, 0, 1, 2, 2]
    assert colors_of(pairs) == ["red", "red", "green", "blue", "blue"]


def test_one_record_per_row_and_repeated_images(tmp_path):
    paths = [str(pictures(tmp_path) / f"{color}.png") for color in ("red", "blue", "red")]
    sentences = [{"raw": text, "tokens": text.split()} for text in ("a red one", "blue", "rot")]
    data = Dataset.from_dict({"image": embedded(paths), "sentences": sentences}).cast_column("image", Image())
    data.to_parquet(tmp_path / "pairs.parquet")
    pairs = load_pairs([tmp_path / "pairs.parquet"])
    assert pairs["text"][:] == ["a red one", "blue", "rot"]
    assert pairs["group"][:] == [0, 1, 0], "equal pictures are one image, in whatever rows they stand"


def test_json_with_paths_relative_to_the_file(tmp_path):
    pictures(tmp_path / "pictures")
    rows = [{"file_name": f"pictures/{color}.png", "caption": color, "scene": 7} for color in COLORS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = load_pairs(tmp_path / "rows.jsonl", "train[:3]")
    assert colors_of(pairs) == pairs["text"][:] == list(COLORS[:3])
    assert load_pairs(tmp_path / "rows.jsonl", group_column="scene")["group"][:] == [0] * 4


def test_given_columns_win_over_found_ones(tmp_path):
    paths = [str(pictures(tmp_path) / f"{color}.png") for color in COLORS]
    columns = {"image": paths, "thumb": paths[::-1], "text": ["x"] * 4, "title": list(COLORS)}
    data = Dataset.from_dict(columns).cast_column("image", Image()).cast_column("thumb", Image())
    data.to_parquet(tmp_path / "pairs.parquet")
    pairs = load_pairs(tmp_path / "pairs.parquet", image_column="thumb", text_column="title")
    assert pairs["text"][:] == list(COLORS)
    assert colors_of(pairs) == list(COLORS)[::-1]


def test_rows_without_image_or_caption_are_left_out_and_counted(tmp_path, caplog):
    paths = [str(pictures(tmp_path) / f"{color}.png") for color in COLORS]
    columns = {"image": [paths[0], None, paths[2], paths[3]], "text": ["red", "green", "  ", None]}
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(tmp_path / "pairs.parquet")
    pairs = load_pairs(tmp_path / "pairs.parquet")
    assert pairs["text"][:] == ["red"]
    assert "left out 3 of 4 rows" in caplog.text


def test_images_are_not_copied_for_every_caption(tmp_path):
    generated = Picture.effect_noise((64, 64), 90)
    generated.save(tmp_path / "noise.png")
    columns = {"image": embedded([tmp_path / "noise.png"]), "captions": [[f"caption {i}" for i in range(200)]]}
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(tmp_path / "pairs.parquet")
    pairs = load_pairs(tmp_path / "pairs.parquet")
    assert len(pairs) == 200
    images = pairs.data.column("image")
    # Every chunk of the stacked table is the same memory.
    assert len({chunk.field("bytes").buffers()[2].address for chunk in images.chunks}) == 1


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image": "x", "label": "y"}, {}, r"no column of captions was found .* image \(Image\), label \(string\)"),
        ({"picture": None, "text": "y"}, {}, "no column of images was found; the columns are picture"),
        ({"image_path": "gone.png", "text": "y"}, {}, "'image_path' names no file .*gone.png"),
        ({"image": "x", "text": "y"}, {"text_column": "txt"}, "text_column names column 'txt'; the columns are image"),
        ({"image": "x", "text": "y"}, {"image_column": "text"}, "image_column 'text' holds no images"),
        ({"image": "x", "text": "y"}, {"image_column": "jpg"}, "image_column names column 'jpg'"),
        ({"image": "x", "text": "y"}, {"group_column": "id"}, "group_column names column 'id'"),
        ({"a": "x", "b": "x", "text": "y"}, {}, "image_column must choose one of the image columns a, b"),
        ({"image": "x", "text": 3}, {}, "text_column 'text' must hold text, .* got a int"),
        ({"image": "x", "text": {"ids": 3}}, {}, "must hold text, .* got a record of ids"),
        ({"image": "x", "text": "y"}, {"split": "dev"}, r"split 'dev' is not in .* it has \['train'\]"),
    ],
)
def test_errors_name_what_came_and_what_there_is(tmp_path, columns, options, message):
    path = str(pictures(tmp_path) / "red.png")
    data = Dataset.from_dict({name: [path if value == "x" else value] for name, value in columns.items()})
    for name, value in columns.items():
        data = data.cast_column(name, Image()) if value == "x" else data
    data.to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match=message):
        load_pairs(tmp_path / "pairs.parquet", **options)


@pytest.mark.parametrize("source", ["gone/folder/x.parquet", "./gone", ["a.parquet", "b.parquet"], []])
def test_missing_files_are_named(source):
    with pytest.raises(ValueError, match=r"no such file or folder: (gone|a.parquet|None)"):
        load_source(source)


def test_an_unreachable_hub_name_says_so(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="'nobody/nothing' is no file or folder here, and as a name on the Hub"):
        load_pairs("nobody/nothing")
    with pytest.raises(ValueError, match="'nobody/nothing' is no file or folder"):
        split_names("nobody/nothing")


def test_files_of_an_unknown_kind_are_refused(tmp_path):
    (tmp_path / "pairs.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"files of one kind out of .parquet, .json"):
        load_pairs(tmp_path / "pairs.xlsx")


def test_image_inputs_are_paths_where_there_are_files_and_pixels_elsewhere(tmp_path):
    paths = [pictures(tmp_path) / f"{color}.png" for color in COLORS]
    data = Dataset.from_dict({"image": list(map(str, paths))}).cast_column("image", Image())
    assert list(ImageInputs(data, rows=[2, 0])) == [paths[2], paths[0]]
    data = Dataset.from_dict({"image": embedded(paths)}).cast_column("image", Image())
    data.to_parquet(tmp_path / "embedded.parquet")
    images = ImageInputs(load_source(tmp_path / "embedded.parquet"))
    assert len(images) == 4
    assert [image.mode for image in images[1:3]] == ["RGB", "RGB"]
    assert images[0].getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("name", "options", "captions_per_image"),
    [
        ("lmms-lab/flickr30k", {"split": "test"}, 5),
        ("umaru97/flickr30k_train_val_test", {}, 5),
        ("bitmind/MS-COCO-unique", {}, 1),
        ("pixparse/cc3m-wds", {}, 1),
        ("lmms-lab/VQAv2", {"split": "validation", "text_column": "question"}, 1),
        ("Multimodal-Fatima/SNLI-VE_train", {"text_column": "premise"}, 1),
    ],
)
def test_known_hub_schemas(name, options, captions_per_image, tmp_path):
    folder = hub_schemas.write(name, tmp_path / "files")
    pairs = load_pairs(folder, **options)
    rows = len(load_source(folder, options.get("split", "train")))
    assert rows == len(hub_schemas.ROWS)
    assert len(pairs) == rows * captions_per_image
    assert isinstance(pairs.features["image"], Image)
    assert all(isinstance(text, str) and text.strip() for text in pairs["text"])
    assert len(set(pairs["group"])) == rows


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("lmms-lab/VQAv2", "validation", "no column of captions was found .* pass text_column"),
        ("yerevann/coco-karpathy", "train", "'filename' names no file .* addresses are not fetched"),
        ("google-research-datasets/conceptual_captions", "train", "no column of images was found; .*image_url"),
        ("TIGER-Lab/NLVR2", "test", r"no column of images was found; .*images \(List\)"),
        ("lmms-lab/GQA", "train", "cannot be read together"),
    ],
)
def test_hub_schemas_without_pairs_say_why(name, split, message, tmp_path):
    folder = hub_schemas.write(name, tmp_path / "files")
    with pytest.raises(ValueError, match=message):
        load_pairs(folder, split)
