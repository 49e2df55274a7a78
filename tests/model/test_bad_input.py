"""Input that was once answered although it means nothing: now a line that names it."""

import numpy as np
import pytest
import torch
from test_errors import refused

from otmerge_hf import OTMergeAudioProcessor, OTMergeTextProcessor


ONES = torch.ones(3, 7).long()
BAD_MASKS = {
    "all zero": (ONES * torch.tensor([[1], [0], [0]]), r"is 0 all over in rows \[1, 2\]; expected a 1 in every row"),
    "negative": (-ONES, "holds -1; expected 1 for what is real and 0 for padding"),
    "additive": ((1.0 - ONES.float().tril()) * -1e9, r"holds -1e\+09; expected 1"),
    "NaN": (ONES * torch.nan, "holds nan; expected 1"),
    "broadcast": (ONES[:, :1], r"has shape \(3, 1\); expected \(3, 7\)"),
    "of another batch": (ONES[:2], r"has shape \(2, 7\); expected \(3, 7\)"),
    "of attention": (ONES[:, None, None], r"has shape \(3, 1, 1, 7\); expected \(3, 7\)"),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_mask(merge, batch, kind):
    mask, said = BAD_MASKS[kind]
    with refused(f"`attention_mask` {said}"):
        merge()(**(batch | {"attention_mask": mask}))
    with refused(f"`context_attention_mask` {said}"):
        merge("bert")(input_ids=batch["input_ids"], context_input_ids=batch["input_ids"], context_attention_mask=mask)
    with refused(f"`query_features_mask` {said}"):
        features = torch.zeros(3, 7, 16)
        merge()(pixel_values=batch["pixel_values"], query_features=features, query_features_mask=mask)


def test_mask_of_a_sound_is_as_long_as_the_sound(merge, batch):
    query = {name: batch[name][:2] for name in ("input_ids", "attention_mask")}
    sound = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    with refused(r"`context_attention_mask` has shape \(2, 100\); expected \(2, 400\)"):
        merge("wav2vec2")(**query, input_values=sound, context_attention_mask=torch.ones(2, 100))


def test_masks_of_any_type_are_taken(merge, batch):
    model, mask = merge(), batch["attention_mask"]
    for same in (mask.bool(), mask.float(), mask.int()):
        torch.testing.assert_close(model(**(batch | {"attention_mask": same})).logits, model(**batch).logits)


@pytest.mark.parametrize("adapter_type", ["mlp", "orthogonal", "coupling"])
def test_features_too_large_for_their_squares(merge, batch, adapter_type):
    model = merge(adapter_type=adapter_type)
    features = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    features[1] *= 1e20
    with refused(r"`context_features` holds values beyond 1e\+10 in rows \[1\]"):
        model(**batch, context_features=features)
    features[1] *= 1e-12
    assert model(**batch, context_features=features).logits.isfinite().all()


def test_images_without_pixels(merge, batch, processor):
    with refused(r"`pixel_values` has shape \(3, 3, 0, 0\); expected at least one row and value"):
        merge()(**(batch | {"pixel_values": torch.zeros(3, 3, 0, 0)}))
    with refused(r"`images` holds an array of shape \(0, 0, 3\); expected at least one pixel"):
        processor(images=[np.zeros((0, 0, 3), np.uint8)], text="what color ?")


def test_an_empty_list_is_no_missing_side(processor, images, feature_extractor):
    """It used to be left out without a word, and the other side was processed."""
    with refused("`images` is an empty list; expected at least one item, or None to leave the side out"):
        processor(images=[], text="what color ?")
    with refused("`text` is an empty list"):
        processor(images=images[:1], text=[])
    with refused("`audio` is an empty list"):
        OTMergeAudioProcessor(feature_extractor("whisper"), processor.tokenizer)(audio=[], text="what ?")
    with refused("`context_text` is an empty list"):
        OTMergeTextProcessor(processor.tokenizer, processor.tokenizer)(context_text=[], text="what ?")


@pytest.mark.parametrize("text", ["\u200b", "\ufeff \u2060", "\u00ad\n"])
def test_question_of_zero_width(processor, text):
    with refused("`text` row 1 is empty; expected a question of at least one character"):
        processor(text=["what color ?", text])


def test_zero_width_characters_within_a_question(processor):
    assert processor(text="what\u200b color ?")["input_ids"]


def test_answers_that_are_none_or_have_gaps(merge):
    with refused("`num_labels` is 0; expected at least one answer"):
        merge(num_labels=0, id2label=None, label2id=None)
    with refused(r"`id2label` has the keys \[0, 5\]; expected 0 to 1, one for each answer"):
        merge(id2label={0: "red", 5: "blue"}, label2id={"red": 0, "blue": 5})
