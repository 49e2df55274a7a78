"""onnxruntime answers as the merge does, with the towers apart, at any batch and number of words."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoProcessor

from otmerge_hf import OTMergeAudioProcessor, OTMergeTextProcessor
from otmerge_hf.export import export_onnx
from otmerge_hf.model.configuration_otmerge import LINEAR_PATHS


QUESTIONS = ["is", "what color is the shape ?", "is there a red shape ? yes yes no no", "green", "a", "blue", "red ?"]


@pytest.fixture(scope="module")
def runtime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


@pytest.fixture
def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), dtype=np.uint8)
    return list(noise)


@pytest.fixture
def answers_all_ways(merge):
    """A merge whose linear path says something."""

    def make(*encoders, **config):
        model = merge(*encoders, **{"linear_path": list(LINEAR_PATHS)} | config)
        torch.manual_seed(4)
        for parameter in model.linear_path.parameters():
            nn.init.normal_(parameter, std=0.3)
        return model

    return make


class Exported:
    def __init__(self, runtime, folder, graphs=""):
        self.about = json.loads((folder / "onnx.json").read_text())
        self.sessions = {
            name: runtime.InferenceSession(folder / graphs / f"{name}.onnx", providers=["CPUExecutionProvider"])
            for name in self.about
        }

    def __call__(self, part, given):
        given = {name: np.asarray(given[name]) for name in self.about[part]["inputs"]}
        return dict(zip(self.about[part]["outputs"], self.sessions[part].run(None, given), strict=True))


def assert_same(exported, model, batch, count):
    context, query = exported("context_tower", batch), exported("query_tower", batch)
    with torch.no_grad():
        expected = model(**batch)
    assert expected.logits.shape[0] == count
    found = torch.from_numpy(exported("answerer", context | query)["logits"])
    torch.testing.assert_close(found, expected.logits, atol=1e-4, rtol=1e-4)
    for side, made in (("context", context), ("query", query)):
        embeds = nn.functional.normalize(expected[f"{side}_embeds"], dim=-1)
        torch.testing.assert_close(torch.from_numpy(made[f"{side}_embeds"]), embeds, atol=1e-4, rtol=1e-4)


def test_towers_and_answerer_give_the_models_logits(answers_all_ways, processor, pictures, tmp_path, runtime):
    parts = [part for part in LINEAR_PATHS if part != "transport"]  # whose loop takes longest to trace
    model = answers_all_ways(linear_path=parts)
    folder = export_onnx(model, tmp_path / "onnx", processor, int8=True)
    exported, saved = Exported(runtime, folder), AutoProcessor.from_pretrained(folder)
    for count in (1, 2, 7):
        assert_same(
            exported, model, saved(images=pictures[:count], text=QUESTIONS[-count:], return_tensors="pt"), count
        )
    assert exported.about["answerer"]["answers"] == ["red", "green", "blue"]
    shape = exported.about["context_tower"]["inputs"]["pixel_values"]["shape"]
    assert shape == ["batch", 3, 32, 32]
    assert exported.about["answerer"]["inputs"]["query_features_mask"]["shape"] == ["batch", "query_words"]

    # several questions about one picture: its tower runs once
    context = exported("context_tower", saved(images=pictures[:1], return_tensors="np"))
    query = exported("query_tower", saved(text=QUESTIONS, return_tensors="np"))
    features = np.repeat(context["context_features"], len(QUESTIONS), axis=0)
    found = exported("answerer", query | {"context_features": features})["logits"]
    with torch.no_grad():
        each = saved(images=pictures[:1] * len(QUESTIONS), text=QUESTIONS, return_tensors="pt")
        expected = model(**each).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)

    # with weights of 8 bits: other numbers, and near
    eighths = Exported(runtime, folder, "int8")
    made = eighths("query_tower", saved(text=QUESTIONS, return_tensors="np")) | {"context_features": features}
    assert 0 < np.abs(eighths("answerer", made)["logits"] - expected).max() < 0.1 * np.abs(expected).max()
    graph = pytest.importorskip("onnx").load(folder / "int8" / "query_tower.onnx").graph
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= {node.op_type for node in graph.node}
    assert "MatMul" not in {node.op_type for node in graph.node if any("weight" in name for name in node.input)}


CHOICES = [
    {"context": "efficientnet", "context_tokens": 3},
    {"fuser_type": "bidirectional", "adapter_type": "linear", "query_tokens": 1},
    {"fuser_type": "self_cross_block", "adapter_type": "orthogonal", "context_tokens": "cls"},
    {"fuser_type": "concat", "adapter_type": "monge", "query_tokens": "cls"},
    {"fuser_type": "average", "adapter_type": "coupling", "context_tokens": "pooled", "query_tokens": "pooled"},
    {"fuser_type": "transport"},
]


def test_joined_layers(answers_all_ways, processor, pictures, tmp_path, runtime):
    model = answers_all_ways(query_tokens="0+-1", adapter_type="linear")
    exported = Exported(runtime, export_onnx(model, tmp_path / "onnx", processor))
    assert_same(exported, model, processor(images=pictures[:2], text=QUESTIONS[-2:], return_tensors="pt"), 2)


@pytest.mark.slow
@pytest.mark.parametrize("config", CHOICES, ids=lambda config: ",".join(map(str, config.values())))
def test_every_choice(answers_all_ways, processor, pictures, tmp_path, runtime, config):
    model = answers_all_ways(**config)
    if config.get("context") == "efficientnet":
        processor.image_processor.size = {"height": 128, "width": 128}
    exported = Exported(runtime, export_onnx(model, tmp_path / "onnx", processor))
    for count in (1, 2, 7):
        batch = processor(images=pictures[:count], text=QUESTIONS[-count:], return_tensors="pt")
        assert_same(exported, model, batch, count)


@pytest.mark.slow
def test_two_sides_of_text(answers_all_ways, tokenizer, tmp_path, runtime):
    model, processor = answers_all_ways("bert"), OTMergeTextProcessor(tokenizer, tokenizer)
    exported = Exported(runtime, export_onnx(model, tmp_path / "onnx", processor))
    for count in (1, 2, 7):
        passages = [f"{text} there is a red shape" for text in QUESTIONS[:count]]
        assert_same(
            exported, model, processor(context_text=passages, text=QUESTIONS[-count:], return_tensors="pt"), count
        )


def test_bad_arguments_are_named(merge, processor, tokenizer, feature_extractor, tmp_path, monkeypatch, runtime):
    model, hears = merge(), OTMergeAudioProcessor(feature_extractor("wav2vec2"), tokenizer)
    with pytest.raises(ValueError, match=r"the context is a sound \(input_values\)"):
        export_onnx(merge("wav2vec2"), tmp_path / "onnx", hears)
    with pytest.raises(ValueError, match=r"the model is in torch.bfloat16; expected float32"):
        export_onnx(merge().bfloat16(), tmp_path / "onnx", processor)
    (tmp_path / "config.json").touch()
    with pytest.raises(ValueError, match=r"`directory` .* not empty"):
        export_onnx(model, tmp_path, processor)
    for library in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ImportError, match=rf"this export needs {library}: pip install .otmerge-hf\[onnx\]"):
                export_onnx(model, tmp_path / "onnx", processor)
    assert not (tmp_path / "onnx").exists()
