"""What a user does wrong, and the one line that says what to do."""

import pytest
import torch
from transformers import BertTokenizer, ViTImageProcessor, pipeline

from otmerge_hf import (
    OTMergeAudioProcessor,
    OTMergeForQuestionAnswering,
    OTMergeModel,
    OTMergeProcessor,
    OTMergeTextProcessor,
    OTMergeVQAPipeline,
)
from otmerge_hf.model.processing_otmerge import make_processor
from otmerge_hf.model.validation import check_finite


def refused(match, error=ValueError):
    """`pytest.raises`, and the message must be one line."""

    class OneLine:
        def __enter__(self):
            self.context = pytest.raises(error, match=match)
            self.raised = self.context.__enter__()

        def __exit__(self, *found):
            done = self.context.__exit__(*found)
            assert "\n" not in str(self.raised.value)
            return done

    return OneLine()


def test_wrong_encoder_name(encoder, tmp_path):
    with refused(
        r"`context='.*no-such-folder'` is neither a folder with a saved model nor a model on the Hub", OSError
    ):
        OTMergeModel.from_encoders_pretrained(context=str(tmp_path / "no-such-folder"), query=encoder("bert"))
    (tmp_path / "empty").mkdir()
    with refused(r"`query='.*empty'` is no encoder that transformers can load"):
        OTMergeModel.from_encoders_pretrained(context=encoder("vit"), query=str(tmp_path / "empty"))


def test_folder_that_names_no_known_encoder(encoder, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-encoder"}')
    with refused(r"`context='.*'` is no encoder that transformers can load"):
        OTMergeModel.from_encoders_pretrained(context=str(tmp_path), query=encoder("bert"))


def test_misspelt_field(encoder):
    with refused("`shared_dims` is no field of OTMergeConfig"):
        OTMergeModel.from_encoders_pretrained(encoder("vit"), encoder("bert"), shared_dims=32)
    with refused("`dtype` is the encoders' own"):
        OTMergeModel.from_encoders_pretrained(encoder("vit"), encoder("bert"), dtype=torch.bfloat16)


def test_something_that_is_no_encoder(encoder):
    with refused("`query` is a dict; expected a name, a folder or a model"):
        OTMergeModel.from_encoders_pretrained(encoder("vit"), {"model_type": "bert"})


def test_sides_exchanged(merge, batch):
    with refused("The query encoder is a `vit`, which takes `pixel_values`; expected a text encoder"):
        merge("bert", "vit")(context_input_ids=batch["input_ids"], input_ids=batch["input_ids"])


def test_processor_of_another_modality(merge, processor, feature_extractor):
    audio = OTMergeAudioProcessor(feature_extractor("whisper"), processor.tokenizer)
    with refused("The processor makes input_features, the model's `vit` context encoder takes pixel_values"):
        audio.check_model(merge())
    with refused("The processor makes pixel_values, the model's `whisper` context encoder takes input_features"):
        processor.check_model(merge("whisper"))
    with refused("The processor makes pixel_values"):
        pipeline("otmerge-vqa", model=merge("whisper"), processor=processor)


def test_processor_of_another_vocabulary(merge, processor, tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + "\n".join(f"word{i}" for i in range(100))
    )
    other = OTMergeProcessor(processor.image_processor, BertTokenizer(str(tmp_path / "vocab.txt")))
    with refused("tokenizer has 105 tokens, the model's query encoder knows 18: they belong to different models"):
        other.check_model(merge())
    with refused("they belong to different models"):
        pipeline("otmerge-vqa", model=merge(), processor=other)
    with refused(
        "`input_ids` holds token 99, the query encoder knows 0 to 17: the tokenizer belongs to another model"
    ):
        merge()(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=torch.tensor([[2, 99, 3]]))
    with refused("`input_ids` holds token -100"):
        merge()(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=torch.tensor([[2, -100, 3]]))


def test_pipeline_without_a_merge_processor(merge, processor, feature_extractor):
    with refused("expected an OTMergeProcessor"):
        OTMergeVQAPipeline(model=merge(), processor=processor.tokenizer)
    audio = OTMergeAudioProcessor(feature_extractor("whisper"), processor.tokenizer)
    with refused("they belong to different models"):
        OTMergeVQAPipeline(model=merge(), processor=audio)


def test_image_path_that_does_not_exist(merge, processor, tmp_path):
    pipe = pipeline("otmerge-vqa", model=merge(), processor=processor)
    with refused(r"`image` '.*missing.png' is not an existing file, a URL, or a base64 image"):
        pipe(str(tmp_path / "missing.png"), "what color is the shape ?")


@pytest.mark.parametrize("text", ["", "   ", ["what color ?", ""]])
def test_empty_question(processor, images, feature_extractor, text):
    with refused("is empty; expected a question of at least one character"):
        processor(images=images[:1], text=text)
    with refused("is empty; expected a question of at least one character"):
        OTMergeAudioProcessor(feature_extractor("whisper"), processor.tokenizer)(text=text)


def test_no_question_tokens(merge):
    with refused(r"`input_ids` has shape \(1, 0\); expected \(batch, at least one token\)"):
        merge()(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=torch.zeros(1, 0, dtype=torch.long))


def test_processor_needs_one_side(processor, feature_extractor):
    with refused("`images` and `text` are both missing"):
        processor()
    with refused("`audio` and `text` are both missing"):
        OTMergeAudioProcessor(feature_extractor("whisper"), processor.tokenizer)()


def test_batch_without_a_side(merge, batch):
    model = merge()
    query = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with refused(
        r"The context side is missing: a `vit` encoder takes `pixel_values` \(or `context_features`\), got none"
    ):
        model(**query)
    with refused("The context side is missing: .* got input_features"):
        model(**query, input_features=torch.zeros(3, 8, 50))
    with refused(r"The query side is missing: pass `input_ids` \(or `query_features`\)"):
        model(pixel_values=batch["pixel_values"])
    with refused("The context side is missing: a `bert` encoder takes `context_input_ids`"):
        merge("bert")(**query)
    with refused("The context side is missing"):
        model.otmerge.get_context_embeds(**query)
    with refused("The query side is missing"):
        model.otmerge.get_query_embeds(pixel_values=batch["pixel_values"])


def test_sides_of_different_size(merge, batch):
    with refused("Got 2 contexts and 3 queries; each question needs its context"):
        merge()(**(batch | {"pixel_values": batch["pixel_values"][:2]}))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_pixels_that_are_no_numbers(merge, batch, value):
    batch["pixel_values"][1, 0, 3, 3] = value
    batch["pixel_values"][2, 0, 3, 3] = -value
    with refused(r"`pixel_values` holds NaN or infinite values in rows \[1, 2\]"):
        merge()(**batch)


def test_large_values_are_told_from_infinite_ones():
    check_finite(torch.full((2, 8), 1e10), "pixel_values")
    with refused(r"holds values beyond 1e\+10 in rows \[0, 1\]"):
        check_finite(torch.full((2, 8), -3e38), "pixel_values")
    with refused(r"holds NaN or infinite values in rows \[0, 1\]"):
        check_finite(torch.full((2, 8), torch.inf), "pixel_values")


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (torch.zeros(3, 16), r"`context_features` has shape \(3, 16\); expected \(batch, at least one token, 16\)"),
        (torch.zeros(3, 5, 8), r"`context_features` has shape \(3, 5, 8\)"),
        (torch.zeros(3, 0, 16), r"`context_features` has shape \(3, 0, 16\)"),
        (torch.full((3, 5, 16), torch.nan), r"`context_features` holds NaN or infinite values in rows \[0, 1, 2\]"),
    ],
)
def test_wrong_features(merge, batch, features, said):
    with refused(said):
        merge()(**(batch | {"context_features": features}))


@pytest.mark.parametrize("shape", [(3, 1), (1, 5), (3, 4)])
def test_mask_that_would_broadcast(merge, batch, shape):
    with refused(r"`context_features_mask` has shape .*; expected \(3, 5\)"):
        merge()(**batch, context_features=torch.zeros(3, 5, 16), context_features_mask=torch.ones(shape))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.tensor([0, 1, 3]), r"`labels` holds 3; expected indices from 0 to 2 \(or -100 to ignore\)"),
        (torch.tensor([0, -1, 1]), "`labels` holds -1; expected indices from 0 to 2"),
        (torch.tensor([0.0, 1.0, 2.0]), "are torch.float32; expected answer indices"),
        (torch.tensor([0, 1]), r"`labels` has shape \(2,\); expected \(3,\) answer indices or \(3, 3\) soft targets"),
        (torch.zeros(3, 1), r"`labels` has shape \(3, 1\)"),
        (torch.full((3, 3), 1.5), "`labels` holds 1.5; expected scores from 0 to 1"),
        (torch.full((3, 3), torch.nan), "`labels` holds nan; expected scores from 0 to 1"),
    ],
)
def test_labels_out_of_range(merge, batch, labels, said):
    with refused(said):
        merge()(**batch, labels=labels)


def test_checkpoint_with_another_number_of_answers(merge, tmp_path):
    merge().save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        OTMergeForQuestionAnswering.from_pretrained(tmp_path, num_labels=5)
    model = OTMergeForQuestionAnswering.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert model.classifier[-1].out_features == 5


def test_processor_from_something_else(tokenizer, tmp_path):
    with refused("`context_processor` is a dict; expected an image processor, an audio feature extractor or a token"):
        make_processor({}, tokenizer)
    assert type(make_processor(ViTImageProcessor(), tokenizer)) is OTMergeProcessor
    assert type(make_processor(tokenizer, tokenizer)) is OTMergeTextProcessor
    with pytest.raises(OSError, match="no-such-folder"):
        OTMergeProcessor.from_encoders_pretrained(str(tmp_path / "no-such-folder"), str(tmp_path / "no-such-folder"))
