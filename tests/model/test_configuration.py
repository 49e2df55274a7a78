"""OTMergeConfig: what it accepts, what it says when it does not, and what comes back from disk."""

import json

import pytest
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, BertConfig, CLIPConfig, EfficientNetConfig, SwinConfig, ViTConfig

from otmerge_hf import OTMergeConfig, OTMergeForQuestionAnswering, OTMergeModel


def make(**fields):
    return OTMergeConfig.from_encoder_configs(ViTConfig(hidden_size=32), BertConfig(hidden_size=64), **fields)


def test_dict_round_trip_keeps_every_field():
    config = make(
        shared_dim=32, adapter_type="linear", context_tokens=-2, context_grid=[2, 3], reconstruction=True, num_labels=7
    )
    again = OTMergeConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert (again.context_tokens, list(again.context_grid), again.num_labels) == (-2, [2, 3], 7)


def test_saved_configuration_comes_back_through_auto_config(tmp_path):
    config = make(shared_dim=32, id2label={0: "no", 1: "yes"})
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, OTMergeConfig)
    assert again.id2label == {0: "no", 1: "yes"}
    assert isinstance(again.context_config, ViTConfig)
    assert isinstance(again.query_config, BertConfig)
    assert again.context_config.hidden_size == 32


def test_field_of_an_encoder_can_be_changed_on_loading(tmp_path):
    make().save_pretrained(tmp_path)
    again = OTMergeConfig.from_pretrained(tmp_path, query_config={"vocab_size": 77})
    assert (again.query_config.vocab_size, again.query_config.hidden_size) == (77, 64)


def test_encoder_configurations_are_copied():
    vit, bert = ViTConfig(hidden_size=32), BertConfig(hidden_size=64)
    config = OTMergeConfig.from_encoder_configs(vit, bert)
    config.query_config.vocab_size = 5
    config.context_config.num_channels = 1
    assert (bert.vocab_size, vit.num_channels) == (BertConfig().vocab_size, 3)


def test_defaults_build_without_arguments():
    config = OTMergeConfig()
    assert (config.context_config.model_type, config.query_config.model_type) == ("vit", "bert")


def test_text_config_is_the_query():
    config = make()
    assert config.get_text_config() is config.query_config
    assert config.text_config is config.query_config


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"adapter_type": "lineer"}, "`adapter_type` is 'lineer'; expected one of linear, mlp"),
        ({"fuser_type": "attention"}, "`fuser_type` is 'attention'; expected one of cross_attention"),
        ({"context_positions": "2d"}, "`context_positions` is '2d'; expected one of auto"),
        ({"query_tokens": "0+3+0"}, r"`query_tokens` is '0\+3\+0'; expected .* or different ones joined"),
        ({"context_tokens": "first"}, "`context_tokens` is 'first'; expected one of last_hidden_state"),
        ({"shared_dim": 0}, "`shared_dim` is 0; expected a positive integer"),
        ({"adapter_hidden_size": -1}, "`adapter_hidden_size` is -1"),
        ({"context_feature_dim": 0}, "`context_feature_dim` is 0"),
        ({"fuser_num_layers": 0}, "`fuser_num_layers` is 0"),
        ({"fuser_dropout": 1.0}, r"`fuser_dropout` is 1.0; expected a number in \[0, 1\)"),
        ({"context_grid": [3]}, r"`context_grid` is \[3\]; expected \[height, width\]"),
        ({"context_grid": [0, 3]}, "`context_grid` is"),
        ({"problem_type": "vqa"}, "`problem_type` is 'vqa'; expected one of None, single_label_classification"),
        ({"shared_dims": 16}, "`shared_dims` is no field of OTMergeConfig"),
    ],
)
def test_wrong_fields_are_refused_in_one_line(fields, said):
    with pytest.raises(ValueError, match=said) as raised:
        make(**fields)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shared_dim": 18}, r"`shared_dim` \(18\) is not a multiple of `fuser_num_heads` \(4\)"),
        ({"shared_dim": 6, "fuser_num_heads": 2}, r"`shared_dim` \(6\) must be a multiple of 4"),
    ],
)
def test_a_width_that_the_fuser_cannot_have_is_refused_where_there_is_a_fuser(fields, said):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = OTMergeConfig.from_encoder_configs(ViTConfig(**small), BertConfig(vocab_size=9, **small), **fields)
    assert OTMergeModel(config).config.shared_dim == fields["shared_dim"]
    with pytest.raises(ValueError, match=said):
        OTMergeForQuestionAnswering(config)


@pytest.mark.parametrize(
    "fields", [{"shared_dim": "16"}, {"shared_dim": 16.0}, {"standardize": "yes"}, {"query_tokens": True}]
)
def test_wrong_types_are_refused(fields):
    with pytest.raises(StrictDataclassError, match=next(iter(fields))):
        make(**fields)


def test_a_field_set_wrong_later_is_not_saved(tmp_path):
    config = make()
    with pytest.raises(StrictDataclassError):
        config.shared_dim = "32"
    config.adapter_type = "lineer"
    with pytest.raises((ValueError, StrictDataclassError), match="adapter_type"):
        config.save_pretrained(tmp_path)


def test_unknown_encoder_type_is_refused():
    with pytest.raises(ValueError, match="no-such-encoder"):
        OTMergeConfig(context_config={"model_type": "no-such-encoder"})


@pytest.mark.parametrize(
    ("encoder", "width"),
    [
        (ViTConfig(hidden_size=24, num_attention_heads=2), 24),
        (EfficientNetConfig(hidden_dim=320), 320),
        (SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2]), 16),
        (CLIPConfig(vision_config={"hidden_size": 48}), 48),
        (transformers.ResNetConfig(hidden_sizes=[8, 12], depths=[1, 1]), 12),
        (transformers.Wav2Vec2Config(hidden_size=48), 48),
        (transformers.WhisperConfig(d_model=28), 28),
    ],
)
def test_width_is_read_off_each_family(encoder, width):
    assert OTMergeConfig.from_encoder_configs(encoder, BertConfig()).feature_dim("context") == width


def test_width_of_a_convolutional_hidden_layer_has_to_be_stated():
    with pytest.raises(ValueError, match=r"state it as `context_feature_dim`"):
        OTMergeConfig.from_encoder_configs(EfficientNetConfig(), BertConfig(), context_tokens=1).feature_dim("context")
    config = OTMergeConfig.from_encoder_configs(
        EfficientNetConfig(), BertConfig(), context_tokens=1, context_feature_dim=24
    )
    assert config.feature_dim("context") == 24


def test_file_holds_code_references_and_no_path(tmp_path):
    vit = ViTConfig()
    vit._name_or_path = str(tmp_path / "somewhere")
    OTMergeConfig.from_encoder_configs(vit, BertConfig()).save_pretrained(tmp_path / "saved")
    text = (tmp_path / "saved" / "config.json").read_text()
    assert str(tmp_path) not in text
    saved = json.loads(text)
    assert set(saved["auto_map"]) >= {"AutoConfig", "AutoModel", "AutoModelForVisualQuestionAnswering"}
    for reference in saved["auto_map"].values():
        assert (tmp_path / "saved" / (reference.split(".")[0] + ".py")).exists()


def test_saving_leaves_the_configuration_without_remote_pipelines(tmp_path):
    config = make()
    config.save_pretrained(tmp_path)
    assert not hasattr(config, "custom_pipelines")
    assert not hasattr(OTMergeConfig.from_pretrained(tmp_path), "custom_pipelines")
