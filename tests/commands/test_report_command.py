"""`otmerge report`: a saved merge and folders in, a page and its pictures out."""

import pytest
from PIL import Image

from otmerge_hf import OTMergeModel, cli


COLORS = ("red", "green", "blue", "white", "black", "yellow", "gray", "brown", "pink", "teal")


@pytest.fixture
def folder(merge, processor, tmp_path, monkeypatch):
    """A saved merge beside a folder that is read both as captions and as questions."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    model = merge(cls=OTMergeModel, adapter_type="linear")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "mine")
    (tmp_path / "rows").mkdir()
    lines = ["file_name,text,question,answer"]
    for color in COLORS:
        Image.new("RGB", (32, 32), color).save(tmp_path / "rows" / f"{color}.png")
        lines.append(f"{color}.png,a {color} shape,what color is it ?,{color}")
    (tmp_path / "rows" / "metadata.csv").write_text("\n".join(lines))
    return tmp_path


def report(folder, *words):
    return cli.main(["report", "--model", str(folder / "mine"), "--cache-dir", str(folder / "features"), *words])


def test_writes_the_page_beside_the_model(folder, capsys):
    rows = str(folder / "rows")
    assert report(folder, "--pairs", rows, "--data", rows, "--examples", "1") == 0
    printed = capsys.readouterr().out.splitlines()
    page = folder / "mine" / "report" / "report.html"
    assert printed[0] == "pairs: 1 images, 1 captions (1 distinct), from 1 images held out of train"
    assert printed[-1] == str(page)
    text = page.read_text()
    assert "<h1>Report on mine</h1>" in text
    assert "what color is it ?" in text, "rows are those of the questions, where there are some"
    assert "Answers: the merge retrieves, it has no answer head." in text
    assert {file.name for file in page.parent.glob("*.png")} == {
        "gap.png",
        "retrieval.png",
        "spectra.png",
        "words-1.png",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairs", "./gone"], "error: --pairs: no such file or folder: gone"),
        (["--pairs", "ROWS", "--pairs-text-column", "words"], "--pairs: --pairs-text-column"),
        (["--pairs-text-column", "text"], "--pairs-text-column says how captions are read; pass --pairs too"),
        (["--data", "./gone"], "error: --data: no such file or folder: gone"),
        (["--output", "ROWS/red.png"], "is a file; expected a folder, new or not"),
    ],
)
def test_bad_input_is_one_line_and_code_2(folder, capsys, words, message):
    assert report(folder, *(word.replace("ROWS", str(folder / "rows")) for word in words)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "mine" / "report").exists()


def test_no_merge_there_is_one_line(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert report(tmp_path) == 2
    assert "is a folder without a saved merge: it has no config.json" in capsys.readouterr().err
