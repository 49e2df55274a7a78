"""Encoders that need more than their main input work; those that cannot be merged are refused by name at once."""

import numpy as np
import pytest
import torch
from test_encoder_families import SMALL
from test_errors import refused
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    DPRConfig,
    DPRQuestionEncoder,
    EncodecConfig,
    EncodecModel,
    PerceiverConfig,
    PerceiverModel,
    ReformerConfig,
    ReformerModel,
    SamImageProcessor,
    SamVisionConfig,
    SamVisionModel,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViltConfig,
    ViltModel,
    VivitConfig,
    VivitModel,
)
from transformers.utils import logging

from otmerge_hf import (
    OTMergeAudioProcessor,
    OTMergeConfig,
    OTMergeForQuestionAnswering,
    OTMergeModel,
    OTMergeProcessor,
)
from otmerge_hf.features import encode
from otmerge_hf.model import processing_otmerge


FRAMES = {"image_size": 32, "patch_size": 8, "num_frames": 4, **SMALL}
QUESTIONS = ["what color ?", "is there a red shape ?"]
HERTZ = 48_000


def perceiver():
    few = {"num_blocks": 1, "num_self_attends_per_block": 1, "num_self_attention_heads": 2, "vocab_size": 60}
    return PerceiverModel(PerceiverConfig(num_latents=4, d_latents=16, d_model=16, num_cross_attention_heads=2, **few))


def clap(fusion):
    audio = {
        "spec_size": 256, "num_mel_bins": 64, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
        "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32, "patch_embeds_hidden_size": 16,
        "enable_fusion": fusion,
    }  # fmt: skip
    return ClapModel(ClapConfig(audio_config=audio, text_config={"vocab_size": 60, **SMALL}, projection_dim=16))


REFUSED = {
    "videomae": (lambda: VideoMAEModel(VideoMAEConfig(tubelet_size=2, **FRAMES)), "takes the frames of a video"),
    "timesformer": (lambda: TimesformerModel(TimesformerConfig(**FRAMES)), "takes the frames of a video"),
    "vivit": (lambda: VivitModel(VivitConfig(tubelet_size=[2, 8, 8], **FRAMES)), "takes the frames of a video"),
    "encodec": (
        lambda: EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, upsampling_ratios=[4, 2], codebook_size=16)),
        "EncodecOutput has no `last_hidden_state`",
    ),
    "perceiver": (perceiver, "takes `inputs`; expected one of pixel_values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_building(encoder, name):
    make, reason = REFUSED[name]
    part, bert = make().eval(), encoder("bert")
    with refused(f"The context encoder is a `{name}`, .*{reason}"):
        OTMergeModel.from_encoders_pretrained(part, bert, shared_dim=16)
    with refused(f"The context encoder is a `{name}`, .*{reason}"):  # from configurations, without a probe
        OTMergeModel(
            OTMergeConfig.from_encoder_configs(part.config, bert.config, shared_dim=16, context_feature_dim=16)
        )


def test_sides_that_are_exchanged_are_refused_when_building(encoder):
    with refused(r"The query encoder is a `vit`, which takes `pixel_values`; .* \(are context and query exchanged"):
        OTMergeModel.from_encoders_pretrained(encoder("bert"), encoder("vit"), shared_dim=16)


def test_an_encoder_of_the_pooled_output_alone(encoder, batch):
    torch.manual_seed(0)
    dpr = DPRQuestionEncoder(DPRConfig(vocab_size=60, **SMALL)).eval()
    with refused("`dpr`, whose DPRQuestionEncoderOutput has no `last_hidden_state`"):
        OTMergeModel.from_encoders_pretrained(encoder("vit"), dpr, shared_dim=16)
    model = OTMergeModel.from_encoders_pretrained(encoder("vit"), dpr, shared_dim=16, query_tokens="pooled")
    assert model(**batch).query_tokens.shape == (3, 1, 16)


def test_an_encoder_that_fails_on_one_image(encoder):
    vit = encoder("vit")
    vit.config.num_channels = 5
    with refused("The context encoder is a `vit`, which does not run on one image: "):
        OTMergeModel.from_encoders_pretrained(vit, encoder("bert"), shared_dim=16)


@pytest.fixture
def build(encoder):
    def build(part):
        torch.manual_seed(0)
        return OTMergeForQuestionAnswering.from_encoders_pretrained(part.eval(), encoder("bert"), shared_dim=16).eval()

    return build


def assert_rows_alone_are_the_same(model, processor, contexts, tmp_path, **options):
    """As rows of a batch, alone, through cached features, and after saving."""
    name = processor.context_part.partition("_")[0]
    argument = "images" if name == "image" else "audio"
    batch = processor(**{argument: contexts}, text=QUESTIONS, return_tensors="pt", **options)
    with torch.no_grad():
        logits = model(**batch).logits
        for row in range(2):
            alone = processor(**{argument: contexts[row]}, text=QUESTIONS[row], return_tensors="pt", **options)
            torch.testing.assert_close(model(**alone).logits[0], logits[row], atol=1e-5, rtol=1e-4)
        stores = (
            encode(model, processor, side, items, cache_dir=tmp_path / "features", progress=False, **more)
            for side, items, more in (("context", contexts, options), ("query", QUESTIONS, {}))
        )
        cached = {}
        for side, store in zip(("context", "query"), stores, strict=True):
            cached[f"{side}_features"], cached[f"{side}_features_mask"] = store.batch(range(2))
        torch.testing.assert_close(model(**cached).logits, logits, atol=1e-5, rtol=1e-4)
        model.save_pretrained(tmp_path / "merge")
        again = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "merge")
        assert torch.equal(again(**batch).logits, logits)
    assert logits.isfinite().all()


def test_images_cut_into_patches(build, tokenizer, images, tmp_path):
    """SigLIP2 takes images of any shape, and says which patches are real."""
    model = build(Siglip2VisionModel(Siglip2VisionConfig(num_patches=16, patch_size=8, **SMALL)))
    processor = OTMergeProcessor(Siglip2ImageProcessor(patch_size=8, max_num_patches=16), tokenizer)
    contexts = [images[0], images[1].resize((60, 20))]
    batch = processor(images=contexts, return_tensors="pt")
    assert (batch["pixel_attention_mask"].sum(1) < 16).any()
    assert_rows_alone_are_the_same(model, processor, contexts, tmp_path)
    with torch.no_grad():
        changed = dict(batch)
        changed["pixel_values"] = batch["pixel_values"] + 9.0 * (batch["pixel_attention_mask"] == 0).unsqueeze(-1)
        embeds = [model.otmerge.get_context_embeds(**given) for given in (batch, changed)]
    torch.testing.assert_close(embeds[0], embeds[1])  # padding does not count
    with refused(r"`pixel_values` has shape \(2, 16, 192\); expected \(batch, channels, height, width\), or patches"):
        model(pixel_values=batch["pixel_values"], input_ids=torch.ones(2, 3).long())


def test_sam_without_the_sizes_of_its_masks(build, tokenizer, images, tmp_path):
    sam = SamVisionConfig(
        image_size=32, patch_size=4, mlp_dim=32, output_channels=8, global_attn_indexes=[1], window_size=4,
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    )  # fmt: skip
    part = SamImageProcessor(size={"longest_edge": 32}, pad_size={"height": 32, "width": 32})
    contexts = [images[0], images[1].resize((60, 20))]
    assert_rows_alone_are_the_same(build(SamVisionModel(sam)), OTMergeProcessor(part, tokenizer), contexts, tmp_path)


@pytest.mark.parametrize("fusion", [False, True])
def test_clap(build, tokenizer, tmp_path, fusion):
    """Its extractor marks one sound of a batch as longer at random, if none is."""
    part = ClapFeatureExtractor(feature_size=64, truncation="fusion" if fusion else "rand_trunc")
    processor = OTMergeAudioProcessor(part, tokenizer)
    generator = np.random.default_rng(0)
    sounds = [generator.normal(size=size).astype(np.float32) for size in (HERTZ, HERTZ // 2)]
    made = processor(audio=sounds, sampling_rate=HERTZ, return_tensors="pt")
    assert not made["is_longer"].any()
    assert_rows_alone_are_the_same(build(clap(fusion)), processor, sounds, tmp_path, sampling_rate=HERTZ)


def test_clap_cuts_long_sounds_at_random_and_says_so(tokenizer, caplog):
    processor = OTMergeAudioProcessor(ClapFeatureExtractor(feature_size=64, truncation="fusion"), tokenizer)
    processing_otmerge.logger.warning_once.cache_clear()
    logging.enable_propagation()
    try:
        made = processor(audio=[np.zeros(11 * HERTZ), np.zeros(HERTZ)], sampling_rate=HERTZ, return_tensors="pt")
    finally:
        logging.disable_propagation()
    assert made["is_longer"].tolist() == [[True], [False]]
    assert "longer than the 10 s that CLAP takes" in caplog.text


def test_a_text_encoder_that_needs_an_image_too(encoder):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vilt = ViltModel(ViltConfig(vocab_size=60, image_size=32, patch_size=8, **small))
    with refused("The query encoder is a `vilt`, which does not run on a text alone: "):
        OTMergeModel.from_encoders_pretrained(encoder("vit"), vilt, shared_dim=16)


def test_width_of_a_text_encoder_is_measured_where_its_configuration_states_another(encoder):
    """Reformer returns both of its streams, side by side."""
    reformer = ReformerModel(
        ReformerConfig(
            vocab_size=60, hidden_size=16, num_attention_heads=2, attention_head_size=8, feed_forward_size=32,
            attn_layers=["local"], local_attn_chunk_length=4, axial_pos_embds=False, max_position_embeddings=64,
        )
    )  # fmt: skip
    model = OTMergeModel.from_encoders_pretrained(encoder("vit"), reformer, shared_dim=16)
    assert model.config.query_feature_dim == 32
    assert OTMergeModel.from_encoders_pretrained(encoder("vit"), encoder("bert")).config.query_feature_dim is None
