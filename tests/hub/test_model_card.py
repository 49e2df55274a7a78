"""A configuration and results in, a card out: valid metadata, every score with its controls, nothing else's."""

import copy
import re

import pytest
from card_results import ALIGNMENT, ANSWERS, COMMAND
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from otmerge_hf import OTMergeModel
from otmerge_hf.encoders.names import DIGESTS
from otmerge_hf.hub import make_card


def with_sources(config, **names):
    config.encoder_sources = {
        side: {"name_or_path": name, "revision": "abc123", "class_name": "X", "dtype": "float32", "digest": "0"}
        for side, name in names.items()
    }
    return config


@pytest.fixture
def answering(merge):
    config = merge().config
    config.architectures = ["OTMergeForQuestionAnswering"]
    return with_sources(config, context="google/vit-base-patch16-224", query="bert-base-uncased")


@pytest.fixture
def retrieving(merge):
    config = merge(cls=OTMergeModel).config
    config.architectures = ["OTMergeModel"]
    return config


def load(card, tmp_path):
    """Metadata as the Hub reads it, from a file, every name in it valid."""
    file = tmp_path / "card.md"
    file.write_text(str(card))
    data = metadata_load(file)
    assert ModelCardData(**copy.deepcopy(data)).to_dict() == data
    assert str(ModelCard.load(file)) == str(card)
    for name in (*data.get("base_model", ()), *data.get("datasets", ())):
        validate_repo_id(name)
    return data


def test_answers(answering, tmp_path):
    card = make_card(answering, ANSWERS, "mine")
    data = load(card, tmp_path)
    assert data["base_model"] == ["google/vit-base-patch16-224", "bert-base-uncased"]
    assert data["base_model_relation"] == "merge"
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "visual-question-answering")
    assert data["datasets"] == ["lmms-lab/VQAv2"]
    assert data["license"] == "unknown"
    assert "language" not in data
    name, (result,) = model_index_to_eval_results(data["model-index"])
    assert (name, result.metric_type, result.metric_value) == ("mine", "vqa_accuracy", 0.6333)
    assert (result.dataset_type, result.dataset_split) == ("lmms-lab/VQAv2", "test")
    text = str(card)
    for row in (
        "| merged | 0.6333 |",
        "| most frequent answer | 0.4111 |",
        "| possible with these answers | 0.9444 |",
    ):
        assert row in text
    assert "| the aligned start | text -> image | 0.5679 | 0.6789 | 0.7891 | 4.5 |" in text
    assert "train 1,234 rows, 617 images, 21 texts; test 1 row, 1 image, 1 text" in text
    assert "To align on, my-captions: train 77 pairs" in text
    assert "- 1 seed (7)" in text
    assert f"`{COMMAND}`" in text
    assert "align 12.3 s, answers 1,045.6 s" in text
    assert "98,765 parameters beside the encoders, of 123,456" in text
    assert "query 0.8765; kept: query." in text
    assert "kept, 120 steps. The answers' logits are 0.25 times the fuser's plus 0.75" in text
    assert (
        "| context | [google/vit-base-patch16-224](https://huggingface.co/google/vit-base-patch16-224) | `abc123` |"
        in text
    )
    assert "55 unlabelled rows were answered" in text


def test_alignment(retrieving, tmp_path):
    card = make_card(retrieving, ALIGNMENT, "mine")
    data = load(card, tmp_path)
    assert "base_model" not in data  # encoders in memory are nobody's on the Hub
    assert "base_model_relation" not in data
    assert data["pipeline_tag"] == "zero-shot-image-classification"
    _, results = model_index_to_eval_results(data["model-index"])
    assert {r.metric_name.replace(" ", "_"): r.metric_value for r in results} == {
        name: round(value, 4) for name, value in ALIGNMENT["test"].items()
    }
    text = str(card)
    assert "| this merge | image -> text | 0.1235 | 0.2346 | 0.3457 | 3 |" in text
    assert "| the closed form that it was refined from | image -> text | 0.0617 |" in text
    assert "| a random pick of image and text | either | 0.1000 |" in text  # 20 pairs among 10 x 20
    assert "0.0111 before, 0.0222 after" in text
    assert "- 1 seed (0)" in text
    results = ALIGNMENT | {"refinement": ALIGNMENT["refinement"] | {"steps": 0, "after": 0.0111}}
    kept = str(make_card(retrieving, results, "mine"))
    assert "at no time above the 0.0111 of the closed form, which was kept" in kept
    assert "that it was refined from" not in kept


def test_without_results_there_is_no_figure_of_a_run(answering, tmp_path):
    card = make_card(answering, None, "mine")
    data = load(card, tmp_path)
    assert "model-index" not in data
    assert not re.search(r"\d\.\d", str(card).replace("Apache-2.0", ""))
    assert not {"## Results", "## Data", "## Compute", "## How it was made"} & set(str(card).splitlines())


@pytest.mark.parametrize(
    ("adapter", "options", "said"),
    [
        ("linear", {"shared_dim": 16}, "exact"),
        ("linear", {"shared_dim": 32}, "left-inverse"),
        ("linear", {"shared_dim": 8}, "none"),
        ("mlp", {"reconstruction": True}, "learned"),
        ("mlp", {}, "none"),
        ("coupling", {"shared_dim": 16}, "exact"),
    ],
)
def test_invertibility_is_the_adapters_own(merge, adapter, options, said):
    model = merge(adapter_type=adapter, **options)
    assert model.otmerge.query_adapter.invertibility == said
    section = str(make_card(model.config, None, "mine")).split("## Can the adapters be inverted?")[1]
    assert [line.split(":")[1].strip() for line in section.splitlines() if line.startswith("- ")][:2] == [said] * 2


def test_packaged_encoders_are_known_by_their_weights(answering):
    for side, name in (("context", "efficientnet-lite0"), ("query", "minilm-l6")):
        answering.encoder_sources[side] |= {"name_or_path": "/somewhere/here", "digest": DIGESTS[name]}
    data = make_card(answering, ANSWERS, "mine").data
    assert data.base_model == ["timm/tf_efficientnet_lite0.in1k", "sentence-transformers/all-MiniLM-L6-v2"]
    assert (data.license, data.language) == ("apache-2.0", "en")


def test_a_folder_of_this_machine_is_not_named(answering):
    answering.encoder_sources["context"]["name_or_path"] = "/home/me/secret"
    card = make_card(answering, ANSWERS, "mine")
    assert "secret" not in str(card)
    assert card.data.base_model == ["bert-base-uncased"]
    assert "`vit` encoder: loaded from a folder or a model in memory." in str(card)


def test_lora_is_not_called_frozen(answering):
    results = copy.deepcopy(ANSWERS)
    results["settings"]["lora"] = 8
    for name in ("validation_losses", "linear_path", "shares", "fuser_steps"):
        del results[name]
    text = str(make_card(answering, results, "mine"))
    assert "Both encoders learnt low-rank updates (LoRA, rank 8)" in text
    assert "stayed as they were" not in text


def test_older_results_without_names_and_commands(answering, retrieving):
    results = copy.deepcopy(ANSWERS)
    for name in ("data", "captions", "command"):
        del results["settings"][name]
    del results["parameters"]
    text = str(make_card(answering, results, "mine"))
    assert "Command: not recorded" in text
    assert "- not recorded: train 1,234 rows" in text
    older = {name: value for name, value in ALIGNMENT.items() if name not in ("settings", "parameters")}
    assert "Command: not recorded" in str(make_card(retrieving, older, "mine"))


def test_results_of_something_else_are_refused(answering):
    with pytest.raises(ValueError, match="results hold score, kind; expected those of otmerge train, otmerge align"):
        make_card(answering, {"score": 1, "kind": 2}, "mine")
