"""Saved tiny merges of every kind of context, and the parts of a card."""

import copy
import re

import huggingface_hub.hf_api
import pytest
from huggingface_hub import constants
from stand_in import TOKEN, StandIn
from transformers.utils import hub as transformers_hub

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.model.processing_otmerge import make_processor


@pytest.fixture
def save(merge, processor, feature_extractor, tokenizer, tmp_path):
    """`save(name, kind="image", answers=True)`: a tiny merge in a folder of that name, with its processor."""

    def make(name, kind="image", answers=True, **options):
        cls = OTMergeForQuestionAnswering if answers else OTMergeModel
        context = {"image": "vit", "audio": "whisper", "text": "bert"}[kind]
        model = merge(context, "bert", cls)
        model.save_pretrained(tmp_path / name, **options)
        parts = {"image": processor.image_processor, "text": copy.deepcopy(tokenizer)}
        part = feature_extractor("whisper") if kind == "audio" else parts[kind]
        make_processor(part, tokenizer).save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def run_snippet(monkeypatch, capsys):
    """`run_snippet(card, folder)`: run the card's Python beside the model's folder; what it printed."""

    def run(card, folder):
        (code,) = re.findall(r"```python\n(.*?)```", str(card), flags=re.DOTALL)
        monkeypatch.chdir(folder.parent)
        exec(compile(code, "card", "exec"), {})
        return capsys.readouterr().out

    return run


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty Hub on loopback, to which this process talks as to the real one, by plain HTTP and with a new cache."""
    server = StandIn()
    settings = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
    monkeypatch.setattr(transformers_hub, "_hf_api", None)  # it keeps the endpoint of its first use
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()
