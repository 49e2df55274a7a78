"""Input that was once answered although it means nothing: now a line that names it."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_errors import refused
from transformers import BertTokenizer, pipeline

from otmerge_hf import OTMergeAudioProcessor, OTMergeProcessor, OTMergeTextProcessor
from otmerge_hf.features import encode
from otmerge_hf.features.collator import dense_labels


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


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8])
def test_labels_of_few_bits(merge, batch, dtype):
    """Cross-entropy takes none of them; data sets often do."""
    model, labels = merge(), torch.tensor([0, -100, 2])
    assert torch.equal(model(**batch, labels=labels.to(dtype)).loss, model(**batch, labels=labels).loss)
    with refused(r"`labels` of shape \(3,\) are torch.bool; expected answer indices"):
        model(**batch, labels=labels == 2)
    soft = torch.eye(3)
    assert torch.equal(model(**batch, labels=soft.to(dtype)).loss, model(**batch, labels=soft).loss)


def test_tensors_of_another_kind(merge, batch):
    with refused(r"`input_ids` are torch.float32; expected whole numbers"):
        merge()(**(batch | {"input_ids": batch["input_ids"].float()}))
    with refused(r"`pixel_values` has shape \(3, 32, 32\); expected \(batch, channels, height, width\)"):
        merge()(**(batch | {"pixel_values": batch["pixel_values"][0]}))


def test_what_is_no_tensor_or_fits_nothing(merge, batch):
    model = merge()
    for name, value in {"pixel_values": [1.0], "attention_mask": np.ones((3, 7)), "labels": [0, 1, 2]}.items():
        with refused(f"`{name}` is a (list|ndarray); expected a torch.Tensor"):
            model(**(batch | {name: value}))
    with refused(r"`token_type_ids` has shape \(1, 7\); expected \(3, 7\)"):  # it would broadcast
        model(**batch, token_type_ids=torch.zeros(1, 7).long())
    with refused("`context_features_mask` is given without `context_features`; expected both or neither"):
        model(**batch, context_features_mask=torch.ones(3, 5))
    with refused(r"The `vit` encoder does not take `pixel_values` \(3, 3, 16, 16\): Input image size"):
        model(**(batch | {"pixel_values": batch["pixel_values"][..., :16, :16]}))
    with refused("`attention_mask` is torch.complex64; expected 1 for what is real and 0 for padding"):
        model(**(batch | {"attention_mask": batch["attention_mask"].to(torch.complex64)}))


def test_what_the_processor_or_a_batch_cannot_be_made_of(merge, processor, images):
    with refused("`images`, or an option, is not what the processor takes: .*(4 elements|channel dimension)"):
        processor(images=np.zeros((4, 40, 40), np.float32))
    with refused("`text`, or an option, is not what the processor takes"):
        processor(text="red", max_length={})
    with refused("`batch_size` is 0; expected a positive integer"):
        pipeline("otmerge-vqa", model=merge(), processor=processor)(images, ["red ?"] * 3, batch_size=0)
    with refused(r"labels hold \{'answers': \['x'\]\}; expected `answers`, classes below 3"):
        dense_labels([{"answers": ["x"]}], 3)


@pytest.fixture
def endless(processor, tmp_path):
    """The processor with a tokenizer that does not say how long a text may be."""
    vocabulary = processor.tokenizer.get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    return OTMergeProcessor(processor.image_processor, BertTokenizer(str(tmp_path / "vocab.txt")))


def test_question_longer_than_the_positions(merge, endless, images):
    batch = endless(images=images[:1], text="red " * 100, return_tensors="pt")
    assert batch["input_ids"].shape == (1, 102)
    with refused("A text has 102 tokens, and the positions of the `bert` encoder end at 64: set `tokenizer.model_max"):
        merge()(**batch)
    with refused("A text has 102 tokens"):
        pipeline("otmerge-vqa", model=merge(), processor=endless)(images[0], "red " * 100)


def test_tokenizer_learns_from_its_encoder_how_long_a_text_may_be(merge, encoder, endless, encoder_folders, images):
    endless.tokenizer.save_pretrained(encoder_folders[1])
    made = OTMergeProcessor.from_encoders_pretrained(*encoder_folders)
    assert made.tokenizer.model_max_length == 62
    batch = made(images=images[:1], text="red " * 100, return_tensors="pt")
    assert batch["input_ids"].shape == (1, 62)
    assert merge()(**batch).logits.isfinite().all()
    texts = OTMergeProcessor.from_encoders_pretrained(encoder_folders[1], encoder_folders[1])
    assert texts.context_tokenizer.model_max_length == 62


def test_half_a_character(merge, processor, images, tmp_path):
    with refused(r"`text` row 1 holds '\\ud800', half a character; expected whole Unicode"):
        processor(images=images[:2], text=["what color ?", "what \ud800 color ?"])
    with refused(r"inputs\[1\]: 'utf-8' codec can't encode character"):
        encode(merge(), processor, "query", ["what ?", "what \udc00 ?"], cache_dir=tmp_path, progress=False)
    assert processor(text="what color \U0001f600 ?")["input_ids"]


@pytest.mark.parametrize(
    ("text", "row", "kind"), [(3, 0, "int"), (["what ?", None], 1, "NoneType"), ([b"a"], 0, "bytes")]
)
def test_question_that_is_no_text(processor, images, text, row, kind):
    with refused(f"`text` row {row} is a {kind}; expected a string"):
        processor(images=images[:1], text=text)


def test_pipeline_with_nothing_to_ask(merge, processor, images):
    pipe = pipeline("otmerge-vqa", model=merge(), processor=processor)
    for given in ([[]], [[], "what ?"]):
        with refused("`image` is an empty list; expected at least one"):
            pipe(*given)
    with refused("`question` is an empty list; expected at least one"):
        pipe(images[0], [])
    with refused("`question` is missing"):
        pipe(np.zeros((40, 40, 3), np.uint8))


def test_truncated_image_is_named(merge, processor, images, tmp_path):
    whole = Image.effect_noise((64, 64), 50).convert("RGB")
    whole.save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-900])
    options = {"cache_dir": tmp_path / "features", "progress": False}
    with refused("cut.jpg' cannot be opened: .*truncated"):
        processor(images=[images[0], Image.open(tmp_path / "cut.jpg")])
    with refused("cut.jpg' cannot be opened: .*truncated"):
        encode(merge(), processor, "context", [images[0], tmp_path / "cut.jpg"], **options)
    with refused(r"inputs\[1\]: .*truncated"):
        encode(merge(), processor, "context", [images[0], Image.open(tmp_path / "cut.jpg")], **options)
