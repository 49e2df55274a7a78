"""`otmerge ask` says what the pipeline says."""

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


def test_asking_imports_no_data_sets(saved):
    """They take seconds and 100 MiB, and nothing is asked of them."""
    words = ["ask", "--model", "merge", "--image", "red.png", "--question", "what color is the shape ?"]
    code = f"""
import argparse, sys
from otmerge_hf.commands import ask
parser = argparse.ArgumentParser()
ask.add_parser(parser.add_subparsers())
ask.run(parser.parse_args({words}))
print([name for name in ("datasets", "pandas", "pyarrow", "evaluate") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=saved, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *answers, imported = done.stdout.splitlines()
    assert len(answers) == 3
    assert imported == "[]"
