"""Which README stands in a saved folder: ours, renewed; a person's, never touched; Trainer's, replaced."""

import json
import logging

import pytest
import torch
from card_results import ANSWERS
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from transformers import AutoModelForVisualQuestionAnswering, Trainer, TrainingArguments

from otmerge_hf.hub import write_card
from otmerge_hf.hub.model_card import MARK


@pytest.fixture
def folder(save):
    made = save("mine")
    (made / "results.json").write_text(json.dumps(ANSWERS))
    return made


def test_a_plain_save_has_a_short_card_and_keeps_one_that_is_there(merge, tmp_path):
    model, readme = merge(), tmp_path / "mine" / "README.md"
    model.save_pretrained(tmp_path / "mine")
    assert metadata_load(readme)["tags"][0] == "otmerge"
    assert "# mine" in readme.read_text().splitlines()
    readme.write_text("what I wrote")
    model.save_pretrained(tmp_path / "mine")
    assert readme.read_text() == "what I wrote"
    model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other" / "README.md").exists()
    model.save_pretrained(tmp_path / "checkpoint-10")  # of a Trainer
    assert not (tmp_path / "checkpoint-10" / "README.md").exists()


def test_a_merge_without_encoders_says_where_they_are(save):
    text = (save("thin", save_encoders=False) / "README.md").read_text()
    assert "`from_pretrained` fetches them" in text
    assert "fetches them" not in (save("whole") / "README.md").read_text()


def test_ours_is_renewed_and_a_persons_is_left(folder, caplog):
    assert write_card(folder) == folder / "README.md"
    assert "| merged | 0.6333 |" in (folder / "README.md").read_text()
    mine = (folder / "README.md").read_text().replace(MARK, "") + "\nmine\n"
    (folder / "README.md").write_text(mine)
    with caplog.at_level(logging.WARNING):
        assert write_card(folder) is None
    assert "README.md is left as it is" in caplog.text
    assert (folder / "README.md").read_text() == mine
    assert write_card(folder, folder / "cards" / "new.md").read_text().startswith("---")


def test_trainers_own_card_is_written_as_ever_and_ours_comes_back_with_it(folder, merge):
    write_card(folder)
    before = (folder / "README.md").read_text()
    model = merge()
    expected = AutoModelForVisualQuestionAnswering.from_pretrained(folder).state_dict()
    arguments = TrainingArguments(str(folder), report_to="none", use_cpu=True)
    Trainer(model, arguments).create_model_card(tags="mine", dataset="easy-vqa")
    theirs = metadata_load(folder / "README.md")
    assert {"otmerge", "mine", "generated_from_trainer"} <= set(theirs["tags"])  # it reads ours before
    assert "generated automatically" in (folder / "README.md").read_text()
    loaded = AutoModelForVisualQuestionAnswering.from_pretrained(folder).state_dict()
    assert all(torch.equal(expected[name], loaded[name]) for name in expected)
    write_card(folder)
    again = (folder / "README.md").read_text()
    assert ModelCard(before).text.strip() in again
    assert "The following hyperparameters were used" in again
    assert metadata_load(folder / "README.md")["datasets"] == ["lmms-lab/VQAv2"]  # ours, of the run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "results.json, line 1: "),
        ("[]", "results.json holds a list"),
        ('{"a": 1}', "results.json: results hold a;"),
    ],
)
def test_bad_results_name_the_file(folder, text, said):
    (folder / "results.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        write_card(folder)


def test_another_model_is_refused(encoder_folders):
    with pytest.raises(ValueError, match="is a vit model; expected a merge"):
        write_card(encoder_folders[0])


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("kind", ["image", "audio", "text"])
def test_the_snippet_runs(save, run_snippet, kind, answers):
    folder = save("mine", kind, answers)
    printed = run_snippet((folder / "README.md").read_text(), folder)
    assert ("red" in printed or "green" in printed or "blue" in printed) if answers else "tensor([[" in printed


def test_a_save_does_not_fail_for_its_card(merge, tmp_path, caplog):
    model = merge()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").symlink_to(tmp_path / "nowhere" / "README.md")  # cannot be written
    with caplog.at_level(logging.WARNING):
        model.save_pretrained(tmp_path / "mine")
    assert "mine has no model card" in caplog.text
    assert (tmp_path / "mine" / "model.safetensors").exists()


@pytest.mark.parametrize("context", ["vit", "efficientnet", "whisper", "wav2vec2", "ast", "bert"])
def test_every_kind_of_encoder_is_told(merge, tmp_path, caplog, context):
    with caplog.at_level(logging.WARNING):
        merge(context).save_pretrained(tmp_path / context)
    kinds = {"vit": "images", "efficientnet": "images", "bert": "passages"}
    assert f"questions about {kinds.get(context, 'sounds')}" in (tmp_path / context / "README.md").read_text()
    assert "has no model card" not in caplog.text
