"""`otmerge ask` says what the pipeline says."""

import os
import subprocess
import sys

import pytest
from transformers import pipeline

from otmerge_hf import cli


@pytest.fixture
def saved(tmp_path, merge, processor, images):
    merge().save_pretrained(tmp_path / "merge")
    processor.save_pretrained(tmp_path / "merge")
    images[0].save(tmp_path / "red.png")
    return tmp_path


def ask(folder, image="red.png", model="merge", *extra):
    words = ["--model", str(folder / model), "--image", str(folder / image), "--question", "what color is the shape ?"]
    return cli.main(["ask", *words, *extra])


def test_prints_the_pipelines_answers(saved, capsys):
    assert ask(saved, "red.png", "merge", "--top-k", "2") == 0
    pipe = pipeline("otmerge-vqa", model=str(saved / "merge"), device="cpu")
    answers = pipe(image=str(saved / "red.png"), question="what color is the shape ?", top_k=2)
    assert capsys.readouterr().out.splitlines() == [f"{row['score']:.3f}  {row['answer']}" for row in answers]


@pytest.mark.parametrize(("image", "model"), [("gone.png", "merge"), ("red.png", "gone")])
def test_bad_input_is_one_line_and_code_2(saved, capsys, image, model):
    assert ask(saved, image, model) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("otmerge ask: error: ")
    assert "gone" in last


def test_imports_no_data_sets_and_no_fits(saved):
    """Who asks must not wait for what only training and aligning need."""
    words = ["ask", "--model", str(saved / "merge"), "--image", str(saved / "red.png"), "--question", "what color ?"]
    program = (
        "import sys; from otmerge_hf import cli; code = cli.main(sys.argv[1:]); "
        "print(code, *sorted(name for name in sys.modules if name == 'datasets' or name.startswith('otmerge_hf.')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        text=True,
        capture_output=True,
    )
    code, *modules = result.stdout.splitlines()[-1].split()
    assert code == "0", result.stderr
    folders = {name.split(".")[1] for name in modules if name != "datasets"}
    assert "datasets" not in modules
    assert folders == {"cli", "commands", "model"}
