"""A merge leaves PyTorch with a free batch: what is exported answers as the merge does, at every batch size."""

import pytest
import torch
from torch.export import Dim

from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.model.configuration_otmerge import LINEAR_PATHS


EXPORTED_AT, ASKED_AT = 3, (1, 2, 7)
BATCH, WORDS = Dim("batch", min=1, max=64), Dim("words", min=2, max=32)
FREE = {"pixel_values": {0: BATCH}, "input_ids": {0: BATCH, 1: WORDS}, "attention_mask": {0: BATCH, 1: WORDS}}
MERGES = {
    "vit": {"context": "vit"},
    "vit, bidirectional": {"context": "vit", "fuser_type": "bidirectional"},
    "vit, self_cross_block": {"context": "vit", "fuser_type": "self_cross_block"},
    "vit, transport": {"context": "vit", "fuser_type": "transport"},
    "efficientnet": {"context": "efficientnet", "context_tokens": 3},  # as the demonstration: a hidden layer
}


class Logits(torch.nn.Module):
    def __init__(self, merge):
        super().__init__()
        self.merge = merge

    def forward(self, pixel_values, input_ids, attention_mask):
        return self.merge(pixel_values=pixel_values, input_ids=input_ids, attention_mask=attention_mask).logits


def questions(count, size, vocab=18):
    """`count` images and questions; of another length at every count, all but the first padded."""
    generator, words = torch.Generator().manual_seed(count), 4 + count
    mask = torch.ones(count, words).long()
    mask[1:, 3:] = 0
    return {
        "pixel_values": torch.randn(count, 3, size, size, generator=generator),
        "input_ids": torch.randint(5, vocab, (count, words), generator=generator) * mask,
        "attention_mask": mask,
    }


def fill(model):
    """Give the linear path, which starts at zero, something to say."""
    torch.manual_seed(4)
    for parameter in model.linear_path.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def exportable(merge):
    def make(name):
        model = fill(merge(**MERGES[name], linear_path=list(LINEAR_PATHS)))
        return Logits(model).eval(), 128 if MERGES[name]["context"] == "efficientnet" else 32

    return make


def save_onnx(module, size, path, dynamo, vocab=18):
    given = questions(EXPORTED_AT, size, vocab)
    if dynamo:
        torch.onnx.export(module, (), path, kwargs=given, dynamic_shapes=FREE, dynamo=True, verbose=False)
        return
    names = {name: {place: str(dim) for place, dim in dims.items()} for name, dims in FREE.items()}
    options = {"input_names": list(given), "output_names": ["logits"], "dynamic_axes": names}
    torch.onnx.export(module, tuple(given.values()), path, dynamo=False, **options)


def run_onnx(path, given):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in given.items()})[0])


def assert_same(answer, module, size, vocab=18):
    for count in ASKED_AT:
        given = questions(count, size, vocab)
        with torch.no_grad():
            expected = module(**given)
        assert expected.shape[0] == count
        torch.testing.assert_close(answer(given), expected, atol=1e-4, rtol=1e-4)


SOME_SLOW = [name if name == "efficientnet" else pytest.param(name, marks=pytest.mark.slow) for name in MERGES]


@pytest.mark.parametrize("name", SOME_SLOW)
def test_torch_export(exportable, name):
    module, size = exportable(name)
    program = torch.export.export(module, (), questions(EXPORTED_AT, size), dynamic_shapes=FREE)
    assert_same(lambda given: program.module()(**given), module, size)


@pytest.mark.slow
def test_torch_export_of_the_model_as_it_is(exportable):
    model = exportable("vit")[0].merge
    program = torch.export.export(model, (), questions(EXPORTED_AT, 32), dynamic_shapes=FREE)
    for count in ASKED_AT:
        given = questions(count, 32)
        torch.testing.assert_close(program.module()(**given).logits, model(**given).logits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOME_SLOW)
def test_onnx_by_tracing(exportable, tmp_path, name):
    module, size = exportable(name)
    save_onnx(module, size, tmp_path / "merge.onnx", dynamo=False)
    assert_same(lambda given: run_onnx(tmp_path / "merge.onnx", given), module, size)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MERGES)
def test_onnx_by_torch_export(exportable, tmp_path, name):
    pytest.importorskip("onnxscript")
    module, size = exportable(name)
    save_onnx(module, size, tmp_path / "merge.onnx", dynamo=True)
    assert_same(lambda given: run_onnx(tmp_path / "merge.onnx", given), module, size)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_demonstrations_encoders(tmp_path):
    from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path

    encoders = str(convert_efficientnet_lite(image_size=64)), str(minilm_l6_path())
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoders, context_tokens=11, num_labels=13)
    module = Logits(fill(model)).eval()
    program = torch.export.export(module, (), questions(EXPORTED_AT, 64, 30_000), dynamic_shapes=FREE)
    assert_same(lambda given: program.module()(**given), module, 64, 30_000)
    save_onnx(module, 64, tmp_path / "merge.onnx", dynamo=False, vocab=30_000)
    assert_same(lambda given: run_onnx(tmp_path / "merge.onnx", given), module, 64, 30_000)
