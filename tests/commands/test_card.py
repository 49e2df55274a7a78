"""`otmerge card`: a saved folder's README, rebuilt."""

import pytest
from huggingface_hub.repocard import metadata_load

from otmerge_hf import cli


@pytest.fixture
def folder(merge, tmp_path):
    merge().save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def test_writes_the_readme_or_another_file(folder, tmp_path, capsys):
    before = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    assert cli.main(["card", "--model", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/README.md\n"
    assert (folder / "README.md").read_text() == before
    assert cli.main(["card", "--model", str(folder), "--output", str(tmp_path / "card.md")]) == 0
    assert metadata_load(tmp_path / "card.md")["library_name"] == "transformers"
    assert cli.main(["card", "--model", str(folder), "--name", "me/mine"]) == 0
    assert 'model="me/mine"' in (folder / "README.md").read_text()


def test_a_readme_of_somebody_else_is_refused_in_one_line(folder, capsys):
    (folder / "README.md").write_text("mine")
    assert cli.main(["card", "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{folder}/README.md was not written by otmerge_hf; name another file with --output" in error
    assert len(error.splitlines()) == 1
    assert (folder / "README.md").read_text() == "mine"


@pytest.mark.parametrize("made", [True, False])
def test_no_merge_there_is_one_line(tmp_path, capsys, made):
    if made:
        (tmp_path / "mine").mkdir()
    assert cli.main(["card", "--model", str(tmp_path / "mine")]) == 2
    assert "is no folder of a saved merge: it has no config.json" in capsys.readouterr().err


def test_a_name_that_no_repository_has_is_refused(folder, capsys):
    assert cli.main(["card", "--model", str(folder), "--name", "bad name!"]) == 2
    assert "--name 'bad name!' is no name of a repository, owner/name" in capsys.readouterr().err
