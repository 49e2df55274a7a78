"""Checkpoints of every released version load, and answer as they did.

Not bit for bit: another machine adds up products by other instructions, in another order. What float32 alone can do
is known: the shelf of 0.1.0, computed in float64, differs from itself by 1.8e-6 at most.
"""

from pathlib import Path

import pytest
import torch
from make_shelf import MERGES as SHELVED
from make_shelf import QUESTION
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor

import otmerge_hf
from otmerge_hf.model.configuration_otmerge import ADAPTER_TYPES, FUSER_TYPES


SHELF = Path(__file__).parent
VERSIONS = sorted(path.name for path in SHELF.iterdir() if (path / "expected.safetensors").is_file())
MERGES = [(v, name) for v in VERSIONS for name in sorted(load_file(SHELF / v / "expected.safetensors"))]


def answers(folder, name, **options):
    auto = AutoModel if name == "aligned" else AutoModelForVisualQuestionAnswering
    model, info = auto.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values())
    with torch.no_grad():
        outputs = model.eval()(**load_file(folder.parents[1] / "inputs.safetensors"))
    return outputs.logits_per_image if name == "aligned" else outputs.logits


@pytest.mark.parametrize(("version", "name"), MERGES)
def test_answers_as_it_did(version, name):
    shelf = SHELF / version
    expected = load_file(shelf / "expected.safetensors")[name]
    encoders = {side: shelf / "encoders" / side for side in ("context", "query")}
    whole = answers(shelf / name / "whole", name)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(answers(shelf / name / "thin", name, encoders=encoders), whole)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_processor_makes_what_it_made(version):
    processor = AutoProcessor.from_pretrained(SHELF / version / "processor")
    given = load_file(SHELF / version / "inputs.safetensors")
    made = processor(images=Image.new("RGB", (16, 16), "red"), text=[QUESTION, "a blue shape"])
    assert made["input_ids"] == given["input_ids"].tolist()
    torch.testing.assert_close(torch.tensor(made["pixel_values"][0])[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))


def test_every_adapter_and_every_fuser_has_a_place():
    """A new one goes into `MERGES`, and onto the shelf with the release that brings it."""
    assert {name.split("-")[0] for name in SHELVED} == set(ADAPTER_TYPES)
    assert {name.split("-")[1] for name in SHELVED} == set(FUSER_TYPES)
    assert otmerge_hf.__version__ in VERSIONS, "run: python tests/shelf/make_shelf.py"
