"""`otmerge ask` says what the pipeline says."""

import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
import wave

import pytest
from transformers import pipeline

from otmerge_hf import OTMergeAudioProcessor, cli


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


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_an_encoder_is_no_merge(saved, encoder_folders, capsys, name):
    assert ask(saved, model=name) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"otmerge ask: error: model '{saved / name}' is a {name} model; expected a merge")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://localhost:{port}/red.png", "cannot be fetched: "),
        ("http://", "cannot be fetched: "),
        ("ftp://localhost/red.png", "is not an existing file, a URL, or a base64 image"),
    ],
)
def test_address_that_gives_nothing(saved, capsys, address, said):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("localhost", 0))
        address = address.format(port=taken.getsockname()[1])
        words = ["--model", str(saved / "merge"), "--image", address, "--question", "what color ?"]
        assert cli.main(["ask", *words]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"otmerge ask: error: --image '{address}' {said}")


def test_address_of_an_image(saved, capsys):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=str(saved)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        words = ["--model", str(saved / "merge"), "--question", "what color is the shape ?", "--image"]
        assert cli.main(["ask", *words, f"http://localhost:{server.server_port}/red.png"]) == 0
    finally:
        server.shutdown()
        server.server_close()
    by_address = capsys.readouterr().out
    assert ask(saved) == 0
    assert capsys.readouterr().out == by_address


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
    # encoders: names alone, to find packaged weights; hub: what writes a card; export: behind a method
    assert folders == {"cli", "commands", "encoders", "export", "hub", "model"}


def test_a_sound_is_heard_by_a_merge_that_hears(saved, merge, feature_extractor, tokenizer, capsys):
    merge("whisper").save_pretrained(saved / "heard")
    OTMergeAudioProcessor(feature_extractor("whisper"), tokenizer).save_pretrained(saved / "heard")
    with wave.open(str(saved / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", None))
        file.writeframes(bytes(2 * 1_000))
    words = ["--audio", str(saved / "a.wav"), "--question", "what color ?"]
    assert cli.main(["ask", "--model", str(saved / "heard"), *words]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert cli.main(["ask", "--model", str(saved / "merge"), *words]) == 2
    assert "expected --image" in capsys.readouterr().err
    assert ask(saved, "red.png", "merge", *words[:2]) == 2
    assert "--image and --audio are given" in capsys.readouterr().err
