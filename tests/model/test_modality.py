"""The table of modalities: every way in goes through it, and opens an item the same way."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, pipeline

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel, OTMergeProcessor, OTMergeTextProcessor
from otmerge_hf.features import encode
from otmerge_hf.model.modality import CONTEXTS, FORWARD_INPUTS, QUERY, modality_of, open_text


QUESTION = "what color is the shape ?"


@pytest.fixture
def photo(tmp_path):
    """A photograph taken with the camera held upright: its stored pixels lie on the side. As a path."""
    upright = Image.new("RGB", (40, 40), "red")
    upright.paste("blue", (0, 0, 40, 20))  # the sky is above
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=100, subsampling=0)
    return path


def seen_by(model, monkeypatch):
    """Every `pixel_values` that the image encoder receives from now on."""
    seen, forward = [], model.otmerge.context_encoder.forward

    def recording(pixel_values, **options):
        seen.append(pixel_values)
        return forward(pixel_values, **options)

    recording.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(model.otmerge.context_encoder, "forward", recording)
    return seen


def test_turned_photograph_is_the_same_to_features_processor_and_pipeline(
    merge, processor, photo, tmp_path, monkeypatch
):
    model = merge()
    seen = seen_by(model, monkeypatch)
    encode(model, processor, "context", [photo], cache_dir=tmp_path / "a", progress=False)
    with Image.open(photo) as image:
        encode(model, processor, "context", [image], cache_dir=tmp_path / "b", progress=False)
        by_processor = processor(images=image, return_tensors="pt")["pixel_values"]
        pipe = pipeline("otmerge-vqa", model=model, processor=processor)
        pipe(image, QUESTION)
    pipe(str(photo), QUESTION)
    assert len(seen) == 4
    assert all(torch.equal(pixels, by_processor) for pixels in seen)
    red, _, blue = by_processor[0]
    assert blue[:14].mean() > 0.9  # the sky is above
    assert red[18:].mean() > 0.9


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "I;16", "I", "F"])
def test_every_mode_is_the_same_to_features_processor_and_pipeline(merge, processor, tmp_path, monkeypatch, mode):
    values = np.arange(40 * 40).reshape(40, 40)
    image = (
        Image.fromarray((values // 7).astype(np.uint8))
        if mode not in ("I;16", "I", "F")
        else Image.fromarray((values * 40).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    )
    image = image.convert("RGBA").convert(mode) if mode == "P" else image.convert(mode)
    if "A" in mode:
        image.putalpha(128)
    model = merge()
    seen = seen_by(model, monkeypatch)
    encode(model, processor, "context", [image], cache_dir=tmp_path, progress=False)
    pipeline("otmerge-vqa", model=model, processor=processor)(image, QUESTION)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], processor(images=[image], return_tensors="pt")["pixel_values"])
    assert seen[0].unique().numel() > 50  # nothing was clipped to one value


def test_text_context_is_text(merge, tokenizer, tmp_path):
    """Everything that was no image used to be called audio."""
    passages, questions = ["red", "the shape is green", "a blue shape"], ["what ?", QUESTION, "is there a red shape ?"]
    model, processor = merge("bert"), OTMergeTextProcessor(tokenizer, tokenizer)
    processor.save_pretrained(tmp_path / "processor")
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")
    assert type(processor) is type(OTMergeProcessor.from_pretrained(tmp_path / "processor")) is OTMergeTextProcessor
    assert processor.context_input_names == ["context_input_ids"]
    options = {"cache_dir": tmp_path / "features", "progress": False}
    context, context_mask = encode(model, processor, "context", passages, **options).batch(range(3))
    query, query_mask = encode(model, processor, "query", questions, **options).batch(range(3))
    raw = processor(context_text=passages, text=questions, return_tensors="pt")
    assert torch.equal(context_mask.long(), raw["context_attention_mask"])
    with torch.no_grad():
        cached = model(
            context_features=context,
            context_features_mask=context_mask,
            query_features=query,
            query_features_mask=query_mask,
        )
        torch.testing.assert_close(cached.logits, model(**raw).logits, atol=1e-6, rtol=1e-5)
    made = OTMergeProcessor.from_encoders_pretrained(str(tmp_path / "processor"), str(tmp_path / "processor"))
    assert type(made) is OTMergeTextProcessor
    with pytest.raises(ValueError, match="`context_text` row 1 is empty"):
        processor(context_text=["red", " "])


@pytest.mark.parametrize(("name", "row"), [("vit", 0), ("whisper", 1), ("wav2vec2", 2), ("bert", 3)])
def test_each_row_is_found_by_its_encoder(encoder, merge, name, row):
    found = modality_of("context", merge(name).otmerge.context_encoder)
    assert found is CONTEXTS[row]
    for cls in (OTMergeModel, OTMergeForQuestionAnswering):
        arguments = inspect.signature(cls.forward).parameters
        assert {found.argument, QUERY.argument, *QUERY.encoder_options} <= set(arguments)
        assert {found.mask_argument, *found.encoder_options} <= set(arguments)


def test_what_has_no_row_is_refused(encoder):
    vit = encoder("vit")
    with pytest.raises(ValueError, match="a `vit`, which takes `pixel_values`; expected a text encoder"):
        modality_of("query", vit)
    vit.main_input_name = "voxels"
    with pytest.raises(ValueError, match="which takes `voxels`; expected one of pixel_values, input_features"):
        modality_of("context", vit)


def test_items_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="`text` holds a int; expected a string"):
        open_text(3)


@pytest.mark.parametrize("cls", [OTMergeModel, OTMergeForQuestionAnswering])
def test_forward_names_every_input_where_trainer_looks(merge, batch, cls):
    model = merge(cls=cls)
    names = list(inspect.signature(model.forward).parameters)
    assert tuple(names[: len(FORWARD_INPUTS)]) == FORWARD_INPUTS
    assert ("labels" in names) is (cls is OTMergeForQuestionAnswering)
    with torch.no_grad():
        by_name = model(**batch)[0]
        assert torch.equal(model(*batch.values())[0], by_name)  # and by position, as any model
    with pytest.raises(TypeError, match="unexpected keyword argument 'pixel_value'"):
        model(pixel_value=batch["pixel_values"])
    with pytest.raises(TypeError, match="multiple values for argument 'pixel_values'"):
        model(batch["pixel_values"], pixel_values=batch["pixel_values"])
    with pytest.raises(TypeError, match=r"takes 2[123] arguments; got 30"):
        model(*[None] * 30)
