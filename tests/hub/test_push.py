"""What goes up to the Hub, file by file, from a model, a processor and the stock Trainer; and which card."""

import copy
import json
import logging

import pytest
import torch
from card_results import ANSWERS
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from safetensors.torch import load
from transformers import Trainer, TrainingArguments

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.hub import keep_card, write_card
from otmerge_hf.hub.model_card import MARK
from otmerge_hf.model.configuration_otmerge import CODE_FILES
from otmerge_hf.model.processing_otmerge import OTMergeTextProcessor
from otmerge_hf.training import AdapterCheckpoints


MODEL = {"config.json", "model.safetensors", "README.md", *CODE_FILES}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}
PROCESSOR = {"processor_config.json", *TOKENIZER}


@pytest.fixture
def files(hub):
    """`files()`: what lies in `org/mine` now, by path."""
    return lambda revision="main": hub.repositories["org/mine"].files(revision)


def card(files):
    return files()["README.md"].decode()


def rows(model, count=8):
    """Features in place of inputs: (S, D) a side, and an answer."""
    sides = ("context", "query")
    return [
        {f"{side}_features": torch.ones(2, model.config.feature_dim(side)) for side in sides} | {"labels": 0}
    ] * count


def train(model, folder, **options):
    arguments = TrainingArguments(str(folder), max_steps=1, use_cpu=True, disable_tqdm=True, **options)
    trainer = Trainer(model, arguments, train_dataset=rows(model), eval_dataset=rows(model))
    trainer.train()
    trainer.evaluate()
    return trainer


@pytest.mark.parametrize("whole", [True, False])
def test_a_model(files, merge, encoder_folders, tmp_path, whole):
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoder_folders, shared_dim=16, fuser_num_heads=2)
    model.push_to_hub("org/mine", save_encoders=whole, tags=["of-mine"])
    assert files().keys() == MODEL
    held = load(files()["model.safetensors"])
    assert held.keys() == {name for name in model.state_dict() if whole or "_encoder." not in name}
    assert all(torch.equal(held[name], model.state_dict()[name]) for name in held)
    config = json.loads(files()["config.json"])
    assert config["has_encoder_weights"] is whole
    assert str(tmp_path) not in files()["config.json"].decode() + card(files)
    assert MARK in card(files)
    assert "# org/mine" in card(files).splitlines()
    assert 'model="org/mine"' in card(files)  # the snippet runs elsewhere
    assert ("`from_pretrained` fetches them" in card(files)) is not whole
    assert {"otmerge", "of-mine"} <= set(ModelCard(card(files)).data.tags)


@pytest.mark.slow
def test_the_processor_adds_its_files_before_or_after(files, merge, processor):
    model = merge()
    processor.push_to_hub("org/mine")
    assert "Model Card for Model ID" in card(files)  # transformers' own template: nothing is known of a model yet
    model.push_to_hub("org/mine")
    assert files().keys() == MODEL | PROCESSOR
    before = card(files)
    assert MARK in before
    processor.push_to_hub("org/mine")
    assert files().keys() == MODEL | PROCESSOR
    assert card(files) == before


@pytest.mark.slow
def test_a_processor_of_two_tokenizers(files, tokenizer):
    OTMergeTextProcessor(copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)).push_to_hub("org/mine")
    assert {f"context_tokenizer/{name}" for name in TOKENIZER} <= files().keys()


@pytest.mark.slow
def test_encoders_on_the_hub_are_the_base_models(hub, files, encoder_folders, tmp_path):
    for name, folder in zip(("org/vit", "org/bert"), encoder_folders, strict=True):
        commit = hub.upload(name, tmp_path / folder)
    model = OTMergeModel.from_encoders_pretrained("org/vit", "org/bert", shared_dim=16)
    model.push_to_hub("org/mine")
    data = ModelCard(card(files)).data
    assert (data.base_model, data.to_dict()["base_model_relation"]) == (["org/vit", "org/bert"], "merge")
    assert f"`{commit}`" in card(files)


@pytest.mark.slow
def test_a_save_that_pushes_sends_the_readme_that_stands_there(files, merge, tmp_path):
    model = merge()
    model.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="org/mine")
    assert files().keys() == MODEL
    assert MARK in card(files)
    (tmp_path / "mine" / "README.md").write_text("---\nlicense: mit\n---\nmy words\n")
    model.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="org/mine")
    assert "my words" in card(files)
    assert "my words" in (tmp_path / "mine" / "README.md").read_text()


@pytest.mark.slow
def test_a_card_that_is_there(hub, files, merge, save, tmp_path, caplog):
    folder = save("mine")
    (folder / "results.json").write_text(json.dumps(ANSWERS))
    write_card(folder)
    for text, kept in (
        ((folder / "README.md").read_text(), "0.6333"),
        ("---\nlicense: mit\n---\nmy words\n", "my words"),
    ):
        (folder / "README.md").write_text(text)
        hub.upload("org/mine", folder)
        with caplog.at_level(logging.WARNING):
            merge().push_to_hub("org/mine")
        assert kept in card(files)
        assert ("keeps its model card and the figures in it" in caplog.text) is (kept == "0.6333")
        caplog.clear()


def test_the_stock_trainer(files, merge, processor, tmp_path):
    trainer = train(merge(), tmp_path / "mine", hub_model_id="org/mine", save_strategy="no")
    trainer.processing_class = processor
    keep_card(trainer)
    trainer.push_to_hub(dataset="easy-vqa", license="mit", tags="of-mine")
    assert files().keys() == MODEL | PROCESSOR | {"training_args.bin"}
    data = metadata_load(tmp_path / "mine" / "README.md")
    assert data["license"] == "mit"
    assert {"otmerge", "generated_from_trainer", "of-mine"} <= set(data["tags"])
    assert data["pipeline_tag"] == "visual-question-answering"
    first = card(files)
    assert MARK in first
    assert 'model="org/mine"' in first
    for said in ("## Can the adapters be inverted?", "- learning_rate: 5e-05", "- Loss: ", "### Framework versions"):
        assert first.count(said) == 1, said
    assert "More information needed" not in first
    trainer.push_to_hub(dataset="easy-vqa", license="mit", tags="of-mine")
    assert card(files) == first
    write_card(tmp_path / "mine", name="org/mine")  # and a renewal keeps what Trainer recorded
    assert (tmp_path / "mine" / "README.md").read_text() == first
    (tmp_path / "mine" / "README.md").write_text("---\nlicense: mit\n---\nmy words\n")
    trainer.push_to_hub()
    assert card(files) == "---\nlicense: mit\n---\nmy words\n"


@pytest.mark.slow
def test_checkpoints_that_go_up_name_no_folder_of_this_machine(hub, files, encoder_folders, tmp_path):
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoder_folders, shared_dim=16, fuser_num_heads=2)
    options = {"push_to_hub": True, "hub_model_id": "org/mine", "save_steps": 1, "hub_always_push": True}
    arguments = TrainingArguments(str(tmp_path / "mine"), max_steps=2, use_cpu=True, disable_tqdm=True, **options)
    trainer = Trainer(model, arguments, train_dataset=rows(model), callbacks=[AdapterCheckpoints()])
    trainer.train()
    trainer._finish_current_push()
    pushed = [commit["files"] for commit in hub.repositories["org/mine"].commits.values() if commit["files"]]
    assert pushed
    assert not any("_encoder." in name for commit in pushed for name in load(commit["model.safetensors"]))
    assert not any(str(tmp_path).encode() in commit["config.json"] for commit in pushed)
    trainer.push_to_hub()
    assert load(files()["model.safetensors"]).keys() == model.state_dict().keys()


@pytest.mark.slow
def test_a_trainers_own_card_becomes_a_part_of_ours(files, merge, tmp_path):
    trainer = train(merge(), tmp_path / "mine", hub_model_id="org/mine", save_strategy="no")
    trainer.push_to_hub()
    assert "generated automatically" in card(files)
    assert "otmerge" in ModelCard(card(files)).data.tags
    for _ in range(2):
        trainer.model.push_to_hub("org/mine")
        assert MARK in card(files)
        assert card(files).count("- learning_rate: 5e-05") == 1
