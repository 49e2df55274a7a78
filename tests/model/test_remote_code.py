"""A saved folder on a machine that never installed this package, and on one that did."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    pipeline,
)

import otmerge_hf
from benchmarks.suites.zoo_remote import HIDE_PACKAGE
from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel, OTMergeProcessor
from otmerge_hf.model.configuration_otmerge import LINEAR_PATHS


ANSWERS = ["red", "green", "blue"]


# Runs first in every subprocess: nothing of the package can be found.
WITHOUT_PACKAGE = (
    HIDE_PACKAGE
    + """
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    pipeline,
)
folder, inputs, out = sys.argv[1:4]
given = torch.load(inputs)
"""
)


def run_without_package(code, folder, inputs, tmp_path):
    """Run `code` where the package cannot be found; return what it saved as `found`."""
    script, out = tmp_path / "script.py", tmp_path / "found.pt"
    script.write_text(WITHOUT_PACKAGE + code + "\ntorch.save(found, out)\nassert 'otmerge_hf' not in sys.modules\n")
    environment = os.environ | {
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    command = [sys.executable, str(script), str(folder), str(inputs), str(out)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out)


@pytest.fixture
def saved(encoder_folders, processor, batch, images, tmp_path):
    """A merge saved with encoders and without, its inputs in a file, and what the parent process gets from them."""
    folder, names = tmp_path / "merge", dict(enumerate(ANSWERS))
    options = {"shared_dim": 16, "fuser_num_heads": 2, "id2label": names, "label2id": {n: i for i, n in names.items()}}
    options |= {"fuser_num_layers": 2, "reconstruction": True, "adapter_type": "orthogonal"}
    torch.manual_seed(0)
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(
        *encoder_folders, linear_path=LINEAR_PATHS, **options
    ).eval()
    for parameter in model.linear_path.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    model.save_pretrained(tmp_path / "thin", save_encoders=False)
    processor.save_pretrained(tmp_path / "thin")
    images[0].save(tmp_path / "red.png")
    given = {"batch": batch, "image": str(tmp_path / "red.png"), "thin": str(tmp_path / "thin")}
    given["encoders"] = dict(zip(("context", "query"), encoder_folders, strict=True))
    torch.save(given, tmp_path / "inputs.pt")
    with torch.no_grad():
        answers = pipeline("otmerge-vqa", model=model, processor=processor)(images[0], "what color is the shape ?")
        return folder, tmp_path / "inputs.pt", model(**batch).logits, model.otmerge(**batch).logits_per_image, answers


# One process for all of it: importing torch and transformers is most of the time.
QUESTIONS = """
trust = {"trust_remote_code": True}
question = "what color is the shape ?"
found = {}
try:
    AutoModel.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    found["untrusted"] = str(error)

with torch.no_grad():
    # Remote code is cached in parts. This saves a model before anything else was loaded, so that the files of
    # processor and pipeline have to come from the first folder.
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder, **trust)
    model.save_pretrained(out + "-alone")
    found["logits"] = model(**given["batch"]).logits
    found["frozen"] = not any(p.requires_grad for p in model.otmerge.context_encoder.parameters())
    found["model_type"] = AutoConfig.from_pretrained(folder, **trust).model_type
    found["logits_per_image"] = AutoModel.from_pretrained(folder, **trust)(**given["batch"]).logits_per_image
    processor = AutoProcessor.from_pretrained(folder, **trust)
    found["processor"] = type(processor).__name__
    for task in ("otmerge-vqa", "visual-question-answering"):
        found[task] = pipeline(task, model=folder, **trust)(given["image"], question)
    zero_shot = AutoModelForZeroShotImageClassification.from_pretrained(given["aligner"], **trust)
    found["zero_shot"] = zero_shot(**given["batch"]).logits_per_image

    processor.save_pretrained(out + "-alone")
    pipe = pipeline("otmerge-vqa", model=out + "-alone", **trust)
    found["again"] = pipe(given["image"], question)
    found["again_logits"] = pipe.model(**given["batch"]).logits
    pipe.model.save_pretrained(out + "-thrice")
    found["thrice"] = AutoModel.from_pretrained(out + "-thrice", **trust)(**given["batch"]).logits_per_image

    processor.save_pretrained(out + "-processor")
    processor = AutoProcessor.from_pretrained(out + "-processor", **trust)
    found["processor_alone"] = processor(text=question, return_tensors="pt")["input_ids"]

    # Saved without its encoders, and they are not where they were.
    thin, encoders = given["thin"], given["encoders"]
    try:
        AutoModel.from_pretrained(thin, **trust)
    except OSError as error:
        found["missing"] = str(error)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(thin, encoders=encoders, **trust)
    found["thin"] = model(**given["batch"]).logits
    found["thin_answers"] = pipeline("otmerge-vqa", model=thin, model_kwargs={"encoders": encoders}, **trust)(
        given["image"], question
    )
    model.save_pretrained(out + "-thin", save_encoders=False)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(out + "-thin", **trust)
    found["thin_again"] = again(**given["batch"]).logits
    model.unmerge(out + "-parts", processor)
"""


def test_folder_works_where_the_package_is_missing(saved, merge, processor, tmp_path):
    folder, inputs, logits, logits_per_image, answers = saved
    aligner = merge(cls=OTMergeModel, seed=4)
    aligner.save_pretrained(tmp_path / "aligner")
    given = torch.load(inputs)
    for side, place in given["encoders"].items():
        Path(place).rename(f"{place}-moved")
        given["encoders"][side] = f"{place}-moved"
    torch.save(given | {"aligner": str(tmp_path / "aligner")}, inputs)
    found = run_without_package(QUESTIONS, folder, inputs, tmp_path)

    assert "trust_remote_code" in found["untrusted"]
    assert torch.equal(found["logits"], logits)
    assert torch.equal(found["logits_per_image"], logits_per_image)
    assert torch.equal(found["zero_shot"], aligner(**given["batch"]).logits_per_image)
    assert (found["model_type"], found["processor"], found["frozen"]) == ("otmerge", "OTMergeProcessor", True)
    assert found["otmerge-vqa"] == found["visual-question-answering"] == answers
    expected = processor(text="what color is the shape ?", return_tensors="pt")["input_ids"]
    assert torch.equal(found["processor_alone"], expected)

    # saved without encoders
    assert found["missing"].startswith("The context encoder, the ViTModel")
    assert "encoders={'context': ...}" in found["missing"]
    assert "\n" not in found["missing"]
    assert torch.equal(found["thin"], logits)
    assert torch.equal(found["thin_again"], logits)
    assert found["thin_answers"] == answers
    parts = tmp_path / "found.pt-parts"
    unmerged = AutoModelForVisualQuestionAnswering.from_pretrained(
        given["thin"], encoders={"context": parts / "context", "query": parts / "query"}
    )
    assert torch.equal(unmerged(**given["batch"]).logits, logits)

    # saved again by the remote class: the same files, and they work
    assert found["again"] == answers
    assert torch.equal(found["again_logits"], logits)
    assert torch.equal(found["thrice"], logits_per_image)
    again = Path(str(tmp_path / "found.pt") + "-alone")
    # the card is the package's: remote code writes none
    assert {p.name for p in again.iterdir()} == {p.name for p in folder.iterdir()} - {"README.md"}
    for key in ("auto_map", "custom_pipelines", "architectures"):
        first, second = (json.loads((place / "config.json").read_text())[key] for place in (folder, again))
        assert first == second, key
    with torch.no_grad():
        model = AutoModelForVisualQuestionAnswering.from_pretrained(again)
        assert torch.equal(model(**given["batch"]).logits, logits)


def test_with_the_package_nothing_asks_for_trust(saved, images):
    folder, inputs, logits, logits_per_image, answers = saved
    batch = torch.load(inputs)["batch"]
    with torch.no_grad():
        model = AutoModelForVisualQuestionAnswering.from_pretrained(folder)
        assert torch.equal(model(**batch).logits, logits)
        assert torch.equal(AutoModel.from_pretrained(folder)(**batch).logits_per_image, logits_per_image)
    assert type(model) is OTMergeForQuestionAnswering
    assert type(AutoModelForZeroShotImageClassification.from_pretrained(folder)) is OTMergeModel
    assert type(AutoProcessor.from_pretrained(folder)) is OTMergeProcessor
    for task in ("otmerge-vqa", "visual-question-answering", "vqa"):
        assert pipeline(task, model=str(folder))(images[0], "what color is the shape ?") == answers


def test_with_the_package_trusting_uses_the_installed_code(saved):
    folder, *_ = saved
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder, trust_remote_code=True)
    assert type(model) is OTMergeForQuestionAnswering


def test_saved_folder_holds_safetensors_and_no_path_of_this_machine(saved, tmp_path):
    folder, *_ = saved
    names = {path.name for path in folder.iterdir()}
    assert "model.safetensors" in names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl", ".ckpt"))}
    places = {str(tmp_path), str(Path.home()), str(Path(otmerge_hf.__file__).parent), str(Path.cwd()), "/tmp"}
    for path in folder.glob("*.json"):
        text = path.read_text()
        found = {place for place in places if place != "/" and place in text}
        assert not found, path.name


def test_travelling_files_are_the_reviewed_ones(saved):
    folder, *_ = saved
    source = Path(otmerge_hf.__file__).parent / "model"
    for path in source.glob("*.py"):
        if path.name != "__init__.py":
            assert (folder / path.name).read_text() == path.read_text()


def test_names_of_encoders_on_disk_do_not_travel(encoder, processor, tmp_path):
    """Merging from folders, as a user does."""
    encoder("vit").save_pretrained(tmp_path / "encoders" / "vit")
    encoder("bert").save_pretrained(tmp_path / "encoders" / "bert")
    processor.image_processor.save_pretrained(tmp_path / "encoders" / "vit")
    processor.tokenizer.save_pretrained(tmp_path / "encoders" / "bert")
    places = {"context": str(tmp_path / "encoders" / "vit"), "query": str(tmp_path / "encoders" / "bert")}
    OTMergeModel.from_encoders_pretrained(**places, shared_dim=16).save_pretrained(tmp_path / "saved")
    OTMergeProcessor.from_encoders_pretrained(**places).save_pretrained(tmp_path / "saved")
    again = OTMergeModel.from_pretrained(tmp_path / "saved")
    again.save_pretrained(tmp_path / "saved")
    AutoProcessor.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").glob("*.json"):
        assert str(tmp_path) not in path.read_text(), path.name
