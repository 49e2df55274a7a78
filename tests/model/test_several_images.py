"""Rows of several images: each encoded once, told apart by their place, the same from pixels and from features."""

import pytest
import torch
from PIL import Image
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline
from transformers.utils import logging

from otmerge_hf import OTMergeModel
from otmerge_hf.features import FeatureCollator, encode
from otmerge_hf.model import fusers
from otmerge_hf.model.fusers import image_codes


NO_PATH = {"linear_path": []}


@pytest.fixture
def pairs(batch):
    """The images of a batch, two a row: its own and the next row's."""
    pixels = batch["pixel_values"]
    return batch | {"pixel_values": torch.stack([pixels, pixels.roll(1, 0)], dim=1)}


def by_hand(model, pairs):
    """Logits with each image encoded by itself, and positions added by hand."""
    tokens = [model.otmerge.embed_side("context", {"pixel_values": p}).tokens for p in pairs["pixel_values"].unbind(1)]
    shared = [model.otmerge.context_adapter(some) for some in tokens]
    codes = image_codes(len(shared), shared[0].shape[-1], shared[0]) * model.positions.scale
    placed = torch.cat([model.positions(some) + code for some, code in zip(shared, codes, strict=True)], dim=1)
    query = model.otmerge.embed_side("query", {"input_ids": pairs["input_ids"]}, pairs["attention_mask"])
    return model.classifier(model.fuser(query.shared, placed, query.mask, None).vector)


@pytest.mark.parametrize("name", ["vit", "efficientnet"])
@pytest.mark.parametrize("tokens", ["last_hidden_state", "pooled"])
def test_each_image_is_encoded_by_itself_and_placed(merge, pairs, name, tokens):
    model = merge(name, context_tokens=tokens, **NO_PATH)
    with torch.no_grad():
        out = model(**pairs)
        expected = by_hand(model, pairs)
    torch.testing.assert_close(out.logits, expected)
    assert out.context_tokens.shape[1] % 2 == 0
    torch.testing.assert_close(out.context_embeds, out.context_shared.mean(dim=1))


def test_one_image_a_row_is_as_it_always_was(merge, batch):
    model = merge()
    with torch.no_grad():
        alone, listed = model(**batch), model(**batch | {"pixel_values": batch["pixel_values"][:, None]})
    assert torch.equal(alone.logits, listed.logits)
    assert torch.equal(alone.context_embeds, listed.context_embeds)


def test_left_and_right_are_told_apart_by_their_place_alone(merge, pairs):
    model, swapped = merge(), pairs | {"pixel_values": pairs["pixel_values"].flip(1)}
    with torch.no_grad():
        there, back = model(**pairs), model(**swapped)
    torch.testing.assert_close(there.context_embeds, back.context_embeds, atol=1e-6, rtol=1e-5)
    assert (there.logits - back.logits).abs().max() > 1e-3
    blind = merge(context_positions="none")
    with torch.no_grad():
        torch.testing.assert_close(blind(**pairs).logits, blind(**swapped).logits, atol=1e-5, rtol=1e-5)


def test_a_merge_without_positions_says_that_places_are_lost(merge, pairs, caplog):
    fusers.logger.warning_once.cache_clear()  # another test may have been told
    logging.enable_propagation()
    try:
        with torch.no_grad():
            merge(fuser_type="transport")(**pairs)
    finally:
        logging.disable_propagation()
    assert "which of a row's images is the first is lost" in caplog.text


def test_rows_with_fewer_images_do_not_depend_on_what_stands_in_their_place(merge, pairs, batch):
    model, mask = merge(), torch.tensor([[1, 1], [1, 0], [1, 1]])
    other = pairs["pixel_values"].clone()
    other[1, 1] = 7.0
    with torch.no_grad():
        masked = model(**pairs, image_mask=mask)
        again = model(**pairs | {"pixel_values": other}, image_mask=mask)
        alone, whole = model(**batch), model(**pairs)
    assert torch.equal(masked.logits, again.logits)
    torch.testing.assert_close(masked.logits[1], alone.logits[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(masked.logits[::2], whole.logits[::2], atol=1e-5, rtol=1e-5)


def test_cached_features_answer_like_pixels(merge, processor, images, tmp_path):
    model = merge()
    stores = [
        encode(model, processor, "context", images, cache_dir=tmp_path, progress=False),
        encode(model, processor, "query", ["what ?", "is it red ?"], cache_dir=tmp_path, progress=False),
    ]
    collator, places = FeatureCollator(*stores), [[0, 2], [2, 0], [1], [1, 1, 0]]
    rows = [{"context_features": some, "query_features": i % 2} for i, some in enumerate(places)]
    listed, texts = [[images[i] for i in some] for some in places], ["what ?", "is it red ?"] * 2
    for some in ([0, 1], [0, 2, 3], [2], [0, 1, 2, 3]):
        batch = collator([rows[i] for i in some])
        raw = processor(images=[listed[i] for i in some], text=[texts[i] for i in some], return_tensors="pt")
        assert ("image_mask" in raw) == (len({len(places[i]) for i in some}) > 1)
        with torch.no_grad():
            torch.testing.assert_close(model(**batch).logits, model(**raw).logits, atol=1e-5, rtol=1e-5)
    single = collator([{"context_features": 1, "query_features": 0}])
    assert "image_mask" not in single
    mixed = collator([{"context_features": 1, "query_features": 0}, rows[0]])  # a number is a list of one
    assert mixed["image_mask"].tolist() == [[1, 0], [1, 1]]
    with torch.no_grad():
        torch.testing.assert_close(model(**mixed).logits[:1], model(**single).logits, atol=1e-5, rtol=1e-5)


def test_the_processor_takes_lists_of_lists(processor, images):
    flat = processor(images=images[:2] * 2, return_tensors="pt")["pixel_values"]
    made = processor(images=[images[:2], images[:2]], text=["what ?", "color ?"], return_tensors="pt")
    assert made["pixel_values"].shape == (2, 2, 3, 32, 32)
    assert torch.equal(made["pixel_values"].flatten(0, 1), flat)
    assert "image_mask" not in made
    ragged = processor(images=[images, images[:1]], return_tensors="np")
    assert ragged["pixel_values"].shape == (2, 3, 3, 32, 32)
    assert ragged["image_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    plain = processor(images=[images, images[:1]])
    assert [len(row) for row in plain["pixel_values"]] == [3, 3]
    assert plain["image_mask"] == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda i: [i[:2], i[0]], "`images` row 1 is a single image; expected a list of images in every row, or in"),
        (lambda i: [i[:2], []], "`images` row 1 is an empty list; expected a list of images in every row"),
    ],
)
def test_lists_that_do_not_fit_are_named(processor, images, pick, message):
    with pytest.raises(ValueError, match=message):
        processor(images=pick(images), return_tensors="pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_mask": torch.tensor([[1, 1]])}, r"`image_mask` has shape \(1, 2\); expected \(3, 2\)"),
        ({"image_mask": torch.zeros(3, 2)}, "`image_mask` is 0 all over in rows"),
        ({"spatial_shapes": torch.ones(3, 2)}, "several images a row, which encoders with `spatial_shapes` do not"),
        (
            {"pixel_values": torch.zeros(3, 3, 32, 32), "image_mask": torch.ones(3, 2)},
            r"`image_mask` is given and `pixel_values` has shape \(3, 3, 32, 32\); expected \(batch, images",
        ),
        (
            {"context_features": torch.zeros(3, 17, 16), "image_mask": torch.ones(3, 2)},
            r"`context_features` has shape \(3, 17, 16\); expected \(batch, 2 images of as many tokens, width\)",
        ),
    ],
)
def test_bad_input_is_named(merge, pairs, change, message):
    with pytest.raises(ValueError, match=message):
        merge()(**pairs | change)


def test_retrieval_takes_several_images_too(merge, pairs):
    model = merge(cls=OTMergeModel)
    with torch.no_grad():
        assert torch.equal(model.get_context_embeds(pixel_values=pairs["pixel_values"]), model(**pairs).context_embeds)


def test_saved_and_asked_by_the_pipeline(merge, processor, images, tmp_path):
    model = merge()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    pipe = pipeline("otmerge-vqa", model=str(tmp_path), device="cpu")
    images[2].save(tmp_path / "blue.png")
    rows = [
        {"image": [images[0], str(tmp_path / "blue.png")], "question": "what color ?"},
        {"image": [images[1], images[1]], "question": "what ?"},
    ]
    said = pipe(rows, top_k=3)
    raw = AutoProcessor.from_pretrained(tmp_path)(
        images=[[images[0], images[2]], [images[1]] * 2], text=["what color ?", "what ?"], return_tensors="pt"
    )
    with torch.no_grad():
        logits = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path).eval()(**raw).logits
    for answers, row in zip(said, logits.softmax(dim=-1), strict=True):
        assert [a["score"] for a in answers] == pytest.approx(row.sort(descending=True).values.tolist(), abs=1e-5)
    assert [a["score"] for a in pipe(rows, top_k=1, batch_size=2)[0]] == pytest.approx([said[0][0]["score"]], abs=1e-5)


def test_gradients_reach_the_adapter_from_every_image(merge, pairs):
    model = merge().train()
    pixels = pairs["pixel_values"].clone().requires_grad_(True)
    for parameter in model.otmerge.context_encoder.parameters():
        parameter.requires_grad_(True)
    model(**pairs | {"pixel_values": pixels}, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert (pixels.grad.abs().sum(dim=(2, 3, 4)) > 0).all()


def test_the_first_image_has_no_code():
    codes = image_codes(3, 16, torch.zeros(1))
    assert not codes[0].any()
    assert torch.cdist(codes, codes).add(torch.eye(3) * 9).min() > 0.5


def test_a_picture_of_another_size_is_brought_to_one(processor):
    made = processor(images=[[Image.new("RGB", (9, 30)), Image.new("L", (50, 50))]], return_tensors="pt")
    assert made["pixel_values"].shape == (1, 2, 3, 32, 32)
