"""`examples/serve.py`: a real server on a free port of this machine, asked over real connections."""

import http.client
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import torch
from PIL import Image
from transformers import pipeline


pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

QUESTIONS = ["what color is the shape ?", "is there a red shape ?", "is there a shape ?"]


@pytest.fixture
def pipe(merge, processor):
    return pipeline("otmerge-vqa", model=merge(), processor=processor, device="cpu")


@pytest.fixture
def serve(load, pipe):
    """`serve(**options)`: the address of a server with these options."""
    running = []

    def start(**options):
        script = load("serve")
        app = script.create_app(pipe, script.Options(model="tiny", **options))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def encoded(pipe):
    """How many images each run of the image encoder had."""
    counts = []
    model = pipe.model.otmerge.context_encoder
    model.register_forward_pre_hook(
        lambda _, given, named: counts.append(len(named["pixel_values"])), with_kwargs=True
    )
    return counts


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def ask(address, content, question=QUESTIONS[0], **data):
    return requests.post(
        f"{address}/answers", files={"image": ("a.png", content)}, data={"question": question, **data}, timeout=30
    )


def assert_same(found, expected):
    assert [one["answer"] for one in found] == [one["answer"] for one in expected]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in expected], abs=1e-6)


def test_answers_are_the_pipelines_and_an_image_costs_once(serve, pipe, images, encoded):
    address = serve()
    picture = Image.new("RGB", (40, 60), "red")
    picture.paste("blue", (0, 0, 40, 20))
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # upright after a quarter turn
    picture.save(turned, "TIFF", exif=exif)
    for content, image in ((png(images[1]), images[1]), (turned.getvalue(), picture.transpose(Image.ROTATE_270))):
        expected = pipe(image, QUESTIONS, top_k=2)
        encoded.clear()
        found = ask(address, content, QUESTIONS, top_k=2)
        assert found.status_code == 200, found.text
        assert encoded == [1]
        assert [row["question"] for row in found.json()["results"]] == QUESTIONS
        for row, one in zip(found.json()["results"], expected, strict=True):
            assert_same(row["answers"], one)
    assert ask(address, png(picture)).json() != ask(address, turned.getvalue()).json(), "EXIF matters"
    health = requests.get(f"{address}/health", timeout=30)
    assert (health.status_code, health.json()) == (200, {"status": "ok", "model": "tiny", "answers": 3})


def test_requests_that_come_together_are_one_batch(serve, pipe, images, encoded):
    address = serve(max_batch=6, max_wait=20)  # six come within 20 s, or the test fails on the counts
    contents = [png(image) for image in images] * 2
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: ask(address, contents[i], QUESTIONS[: 1 + i % 3]), range(6)))
    assert encoded == [6]
    for i, one in enumerate(found):
        for row, expected in zip(one.json()["results"], pipe(images[i % 3], QUESTIONS[: 1 + i % 3]), strict=True):
            assert_same(row["answers"], expected)


def test_one_fault_in_a_batch_is_not_everybodys(serve, pipe, images):
    address = serve(max_batch=3, max_wait=20)

    def refuse_red(_, given, named):
        if (named["pixel_values"][:, 0].mean(dim=(1, 2)) > 0.5).any():
            raise RuntimeError("red is more than this encoder bears")

    pipe.model.otmerge.context_encoder.register_forward_pre_hook(refuse_red, with_kwargs=True)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: ask(address, png(image)), images))
    assert [one.status_code for one in found] == [500, 200, 200]
    assert ask(serve(), png(images[1])).json() == found[1].json()


def test_what_is_refused(serve, images, encoded):
    address = serve(max_questions=3, max_megapixels=0.01, max_megabytes=0.1)
    good = png(images[0])
    for content, status, said in (
        (b"no picture", 415, "`image` is no PNG"),
        (b"", 415, "`image` is no PNG"),
        (png(Image.new("RGB", (200, 60))), 413, "200 x 60 pixels; expected at most 10,000"),
        (good[:60], 422, "cannot be opened: "),
        (bytes(100_001), 413, "more than 100,000 bytes"),
    ):
        found = ask(address, content)
        assert (found.status_code, said in found.json()["detail"]) == (status, True), found.text
        assert "\n" not in found.json()["detail"]
    for data, said in (
        ({"question": "  "}, "`question` row 0 is empty"),
        ({"question": [QUESTIONS[0], "\u200b"]}, "`question` row 1 is empty"),
        ({"question": QUESTIONS + QUESTIONS}, "`question`: List should have at most 3 items"),
        ({"question": []}, "`question`: Field required"),
        ({"question": [QUESTIONS[0], "a" * 1001]}, "`question` row 1 has 1,001 characters; expected at most 1,000"),
        ({"top_k": 0}, "`top_k`: Input should be greater than or equal to 1"),
        ({"top_k": "many"}, "`top_k`: Input should be a valid integer"),
    ):
        found = ask(address, good, **data)
        assert (found.status_code, said in found.json()["detail"]) == (422, True), found.text
    missing = requests.post(f"{address}/answers", data={"question": QUESTIONS[0]}, timeout=30)
    assert (missing.status_code, missing.json()["detail"]) == (422, "`image`: Field required")
    files = [("image", ("a.png", good)), ("question", ("q.txt", b"what"))]
    found = requests.post(f"{address}/answers", files=files, timeout=30)
    assert (found.status_code, found.json()["detail"]) == (422, "`question`: Input should be a valid string")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert requests.post(f"{address}/answers", b"no parts", headers=broken, timeout=30).status_code == 400
    assert encoded == []
    assert ask(address, good).status_code == 200, "it goes on"


def test_bytes_are_counted_as_they_come(serve, images):
    """Chunks without a Content-Length, for ever: the server ends it."""
    address = serve(max_megabytes=0.1)
    sent = []

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(10_000):
            sent.append(1)
            yield bytes(10_000)

    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", "/answers", endless(), {"Content-Type": "multipart/form-data; boundary=x"})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["detail"][:25]) == (413, "the request has more than")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the system's buffers decide whether an endless sender still hears the reason
    assert len(sent) < 2_000
    assert ask(address, png(images[0])).status_code == 200


def hold_encoder(pipe):
    """Two events: the encoder waits for the first, and sets the second when it has been called."""
    held, entered = threading.Event(), threading.Event()

    def hold(*_):
        entered.set()
        held.wait(20)

    pipe.model.otmerge.context_encoder.register_forward_pre_hook(hold)
    return held, entered


def test_a_full_queue_refuses(serve, pipe, images):
    held, entered = hold_encoder(pipe)
    address = serve(max_batch=1, max_queue=1)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, address, png(images[0]))
        assert entered.wait(20)
        more = [pool.submit(ask, address, png(images[0])) for _ in range(3)]
        while sum(one.done() for one in more) < 2:
            time.sleep(0.01)
        refused = [one.result() for one in more if one.done()]
        assert [one.status_code for one in refused] == [503, 503]
        assert refused[0].headers["Retry-After"] == "1"
        held.set()
        assert first.result().status_code == 200
        assert sorted(one.result().status_code for one in more) == [200, 503, 503]


def test_nothing_is_computed_for_who_has_gone(serve, pipe, images, encoded):
    held, entered = hold_encoder(pipe)
    address = serve(max_batch=1, max_queue=2)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, address, png(images[0]))
        assert entered.wait(20)
        for _ in range(2):
            with pytest.raises(requests.Timeout):
                requests.post(
                    f"{address}/answers",
                    files={"image": ("a.png", png(images[1]))},
                    data={"question": QUESTIONS[0]},
                    timeout=0.3,
                )
        held.set()
        assert first.result().status_code == 200
    assert ask(address, png(images[2])).status_code == 200
    assert encoded == [1, 1], "the first and the last"


def test_the_command_line(load, call, error, merge, tokenizer, tmp_path):
    script = load("serve")
    assert script.Options(model="x").host == "127.0.0.1"
    assert error(call, "serve", "--model", tmp_path / "gone").startswith(
        f"error: --model '{tmp_path / 'gone'}' cannot"
    )
    for option, value in (("max_batch", 0), ("max_wait", -1), ("max_megabytes", "nan")):
        assert f"--{option} is" in (said := error(call, "serve", "--model", "x", f"--{option}", value))
        assert said.strip().endswith("at least 0" if option == "max_wait" else "above 0")
    from otmerge_hf import OTMergeTextProcessor

    torch.manual_seed(0)
    merge("bert").save_pretrained(tmp_path / "reader")
    OTMergeTextProcessor(tokenizer, tokenizer).save_pretrained(tmp_path / "reader")
    assert "expected one that looks at images" in error(call, "serve", "--model", tmp_path / "reader")
