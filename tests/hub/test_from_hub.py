"""`AutoModel.from_pretrained("org/otmerge-vit-bert")`, literally: whole, without encoders, at a revision, refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stand_in import TOKEN
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline

from benchmarks.suites.zoo_remote import HIDE_PACKAGE
from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel, OTMergeProcessor


NAME, QUESTION = "org/otmerge-vit-bert", "what color is the shape ?"
OPTIONS = {"shared_dim": 16, "fuser_num_heads": 2, "id2label": dict(enumerate(["red", "green", "blue"]))}


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


@pytest.fixture
def merged(hub, encoder_folders):
    """A merge of two encoders on the Hub."""
    for name, folder in zip(("org/vit", "org/bert"), encoder_folders, strict=True):
        hub.upload(name, Path(folder))
    torch.manual_seed(0)
    return OTMergeForQuestionAnswering.from_encoders_pretrained("org/vit", "org/bert", **OPTIONS).eval()


@pytest.fixture
def push(hub, merged, processor):
    """`push(whole)`: the merge goes up; the commit, of model and processor, that others may name."""

    def make(whole):
        processor.push_to_hub(NAME)
        merged.push_to_hub(NAME, save_encoders=whole)
        return hub.repositories[NAME].branches["main"]

    return make


@pytest.mark.parametrize("whole", [pytest.param(True, marks=pytest.mark.slow), False])
def test_by_name(hub, push, merged, batch, images, whole):
    push(whole)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(NAME).eval()
    assert torch.equal(logits(model, batch), logits(merged, batch))
    assert model.config.encoder_sources == merged.config.encoder_sources
    with torch.no_grad():
        found = AutoModel.from_pretrained(NAME).eval()(**batch)
        assert torch.equal(found.logits_per_image, merged.otmerge(**batch).logits_per_image)
    assert type(AutoProcessor.from_pretrained(NAME)) is OTMergeProcessor
    answers = [pipeline(*task, model=NAME)(images[0], QUESTION) for task in ((), ("otmerge-vqa",))]
    assert answers[0] == answers[1]
    model.push_to_hub("org/again", save_encoders=whole)  # what was loaded is shared as it was
    again = AutoModelForVisualQuestionAnswering.from_pretrained("org/again").eval()
    assert torch.equal(logits(again, batch), logits(merged, batch))
    files = [hub.repositories[name].files() for name in (NAME, "org/again")]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]
    assert json.loads(files[0]["config.json"]) == json.loads(files[1]["config.json"])
    assert "_commit_hash" not in files[1]["config.json"].decode()


@pytest.mark.slow
def test_an_older_commit(push, merged, batch):
    first, before = push(whole=False), logits(merged, batch)
    with torch.no_grad():
        merged.classifier[0].weight += 1
    push(whole=False)
    assert not torch.equal(logits(merged, batch), before)
    for revision, expected in ((first, before), ("main", logits(merged, batch))):
        model = AutoModelForVisualQuestionAnswering.from_pretrained(NAME, revision=revision).eval()
        assert torch.equal(logits(model, batch), expected)
    with pytest.raises(OSError, match="is not a valid git identifier"):
        AutoModelForVisualQuestionAnswering.from_pretrained(NAME, revision="f" * 40)


def flip_a_bit(files):
    held = bytearray(files["model.safetensors"])
    held[-1] ^= 1
    return files | {"model.safetensors": bytes(held)}


BROKEN = ["revision", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bit", "missing"))]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_encoder_that_is_another_is_named_in_one_line(hub, push, merged, encoder_folders, broken):
    push(whole=False)
    record = merged.config.encoder_sources["query"]
    bert = hub.repositories["org/bert"]
    if broken == "missing":
        del hub.repositories["org/bert"]
    elif broken == "bit":  # a repository that was written anew under the same commit
        bert.commits[record["revision"]]["files"] = flip_a_bit(bert.files())
    else:  # the checkpoint names a commit of other weights
        other = bert.commit(flip_a_bit(bert.files()), "trained on")
        mine = hub.repositories[NAME]
        config = mine.files()["config.json"].replace(record["revision"].encode(), other.encode())
        mine.commit(mine.files() | {"config.json": config}, "another revision")
    with pytest.raises((OSError, ValueError), match="The query encoder") as caught:
        OTMergeModel.from_pretrained(NAME, cache_dir=encoder_folders[0] + "-new-cache")
    message = str(caught.value)
    assert "\n" not in message
    assert "'org/bert'" in message
    if broken == "missing":
        assert f"at revision {record['revision']}" in message
    else:
        assert f"expected {record['digest']}" in message
    assert "encoders={'query': ...}" in message


@pytest.mark.slow
def test_encoders_of_folders_are_asked_for(merged, encoder_folders, batch):
    """What was merged from folders of one machine says nothing of them to another."""
    merged = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoder_folders, **OPTIONS).eval()
    merged.push_to_hub("org/of-folders", save_encoders=False)
    with pytest.raises(OSError, match="pass its name or folder, `encoders="):
        OTMergeModel.from_pretrained("org/of-folders")
    model = OTMergeForQuestionAnswering.from_pretrained(
        "org/of-folders", encoders={"context": "org/vit", "query": "org/bert"}
    ).eval()
    assert torch.equal(logits(model, batch), logits(merged, batch))
    model.push_to_hub("org/named", save_encoders=False)  # now it says where they are
    named = OTMergeForQuestionAnswering.from_pretrained("org/named").eval()
    assert torch.equal(logits(named, batch), logits(merged, batch))


WITHOUT_PACKAGE = (
    HIDE_PACKAGE
    + """
import torch
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline

whole, thin, first = sys.argv[1:4]
given, found, trust = torch.load("given.pt"), {}, {"trust_remote_code": True}
with torch.no_grad():
    for name in (whole, thin):
        model = AutoModelForVisualQuestionAnswering.from_pretrained(name, **trust).eval()
        similar = AutoModel.from_pretrained(name, **trust).eval()(**given["batch"]).logits_per_image
        processor = AutoProcessor.from_pretrained(name, **trust)
        answers = pipeline("otmerge-vqa", model=name, **trust)(given["image"], given["question"])
        found[name] = model(**given["batch"]).logits, similar, type(processor).__name__, answers
    # an older commit, whose code is another one too: saved again, it is that commit's
    old = AutoModelForVisualQuestionAnswering.from_pretrained(thin, revision=first, **trust).eval()
    found["first"] = old(**given["batch"]).logits
    old.push_to_hub("org/old-again", save_encoders=False)
    found["first_again"] = AutoModelForVisualQuestionAnswering.from_pretrained(
        "org/old-again", **trust).eval()(**given["batch"]).logits
    try:
        AutoModel.from_pretrained("org/broken", **trust)
    except ValueError as error:
        found["broken"] = str(error)
torch.save(found, "found.pt")
assert "otmerge_hf" not in sys.modules
"""
)


@pytest.mark.slow
def test_without_the_package(hub, push, merged, processor, batch, images, tmp_path):
    """One process for all of it: its imports take longer than the rest."""
    first = push(whole=False)
    mine = hub.repositories[NAME]
    old_code = {path: data + b"# of old\n" for path, data in mine.files().items() if path.endswith(".py")}
    first, before = mine.commit(mine.files() | old_code, "older code"), logits(merged, batch)
    with torch.no_grad():
        merged.classifier[0].weight += 1
    push(whole=False)
    merged.push_to_hub("org/whole")
    processor.push_to_hub("org/whole")
    config = json.loads(mine.files()["config.json"])
    config["encoder_sources"]["query"] |= {"digest": "0" * 64, "content": "0" * 64}
    hub.repositories["org/broken"] = type(mine)()
    hub.repositories["org/broken"].commit(mine.files() | {"config.json": json.dumps(config).encode()}, "")
    images[0].save(tmp_path / "red.png")
    torch.save({"batch": batch, "image": str(tmp_path / "red.png"), "question": QUESTION}, tmp_path / "given.pt")
    (tmp_path / "script.py").write_text(WITHOUT_PACKAGE)
    settings = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    settings |= {"HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "script.py", "org/whole", NAME, first]
    done = subprocess.run(command, env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    found = torch.load(tmp_path / "found.pt")
    with torch.no_grad():
        similar = merged.otmerge(**batch).logits_per_image
        answers = pipeline("otmerge-vqa", model=merged, processor=processor)(images[0], QUESTION)
    for name in ("org/whole", NAME):
        assert torch.equal(found[name][0], logits(merged, batch))
        assert torch.equal(found[name][1], similar)
        assert found[name][2:] == ("OTMergeProcessor", answers)
    assert torch.equal(found["first"], before)
    assert torch.equal(found["first_again"], before)
    again = hub.repositories["org/old-again"].files()
    code = {path for path in mine.files(first) if path.endswith(".py")}
    assert code <= again.keys()
    assert all(again[path] == mine.files(first)[path] for path in code)
    assert found["broken"].startswith("The query encoder 'org/bert' is another one")
    assert "\n" not in found["broken"]
