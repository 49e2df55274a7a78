"""`otmerge export`: a saved merge, written for other libraries."""

import pytest

from otmerge_hf import OTMergeModel, cli


@pytest.fixture
def saved(merge, processor, tmp_path):
    def make(**config):
        merge(adapter_type="linear", linear_path=[], **config).save_pretrained(tmp_path / "mine")
        processor.save_pretrained(tmp_path / "mine")
        return ["export", "--model", str(tmp_path / "mine"), "--output", str(tmp_path / "out"), "--format"]

    return make


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.onnx"))


def test_onnx_with_int8(saved, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert cli.main([*saved(), "onnx", "--int8"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out\n"
    graphs = ["answerer.onnx", "context_tower.onnx", "query_tower.onnx"]
    assert names(tmp_path / "out") == sorted([*graphs, *(f"int8/{name}" for name in graphs)])


def test_onnx_of_a_merge_that_retrieves_only(saved, tmp_path):
    pytest.importorskip("onnxruntime")
    assert cli.main([*saved(cls=OTMergeModel), "onnx"]) == 0
    assert names(tmp_path / "out") == ["context_tower.onnx", "query_tower.onnx"]


def test_sentence_transformers(saved, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    assert cli.main([*saved(), "sentence-transformers"]) == 0
    theirs = library.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert theirs.encode(["a red shape"]).shape == (1, 16)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["sentence-transformers", "--int8"], "--int8 goes with --format onnx, not sentence-transformers"),
        (["onnx", "--model", "nowhere/at/all"], "model 'nowhere/at/all' is no folder here"),
    ],
)
def test_what_is_wrong_is_one_line(saved, capsys, more, message):
    words = saved()
    capsys.readouterr()
    assert cli.main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_folder_that_holds_something_is_left_alone(saved, tmp_path, capsys):
    words = saved()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    assert cli.main([*words, "onnx"]) == 2
    assert "--output " in (error := capsys.readouterr().err)
    assert "is there and not empty" in error
