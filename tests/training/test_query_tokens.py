"""The layer of the text encoder that `otmerge train` takes."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.data import load_questions
from otmerge_hf.data.questions import Questions
from otmerge_hf.model.modality import SIDES
from otmerge_hf.model.modeling_otmerge import OTMergeModel
from otmerge_hf.training import choose_query_tokens, plan_merge, train_merge
from otmerge_hf.training.query_tokens import PENALTIES, ridge_errors


def write_rows(folder, vocabulary):
    """Statements of four drawn words; the answer tells whether one of them is the vocabulary's first."""
    draw, lines = random.Random(0), ["image,question,answer"]
    for row in range(240):
        words = [draw.choice(vocabulary[:6]) for _ in range(4)]
        lines.append(f"{row % 40}.png,{' '.join(words)},{'yes' if vocabulary[0] in words else 'no'}")
    (folder / "questions.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def pair(encoder_folders, tokenizer, images):
    """Encoders of which the text encoder has four layers, and a folder of questions."""

    def make(blind_from):
        torch.manual_seed(0)
        bert = BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                num_hidden_layers=4,
                num_attention_heads=2,
                intermediate_size=32,
                initializer_range=0.4,
            )
        )
        for layer in bert.encoder.layer[blind_from:]:  # one and the same vector for every word from here on
            layer.output.LayerNorm.weight.data.zero_()
        context, query = encoder_folders
        bert.save_pretrained(query)
        data = Path(query).parent / "mine"
        data.mkdir(exist_ok=True)
        for number in range(40):
            images[0].resize((32, 32)).point(lambda v, n=number: (v + n) % 256).save(data / f"{number}.png")
        write_rows(data, sorted(word for word in tokenizer.get_vocab() if word.isalpha()))
        encoders = EncoderPair(str(context), str(query), {side: ["last_hidden_state"] for side in SIDES})
        return encoders, load_questions(str(data)), {"batch_size": 32, "device": "cpu"}

    return make


def test_the_middle_layer_is_taken_where_the_last_forgot_the_words(pair, tmp_path, caplog):
    encoders, questions, options = pair(blind_from=3)
    with caplog.at_level("INFO", logger="otmerge_hf"):
        chosen = choose_query_tokens(encoders, questions, cache_dir=tmp_path / "features", **options)
    assert chosen.choice == 2
    assert list(chosen.errors) == ["last_hidden_state", "2"]
    assert chosen.errors["2"] < 0.9 * chosen.errors["last_hidden_state"]
    assert "Words: hidden layer 2 of the text encoder" in caplog.text


def test_the_last_layer_is_kept_where_both_are_alike_but_for_rounding(pair, tmp_path):
    encoders, questions, options = pair(blind_from=1)  # neither knows a word
    chosen = choose_query_tokens(encoders, questions, cache_dir=tmp_path / "features", **options)
    assert chosen.choice == "last_hidden_state"
    assert chosen.errors["2"] == pytest.approx(chosen.errors["last_hidden_state"], rel=1e-3)


def test_the_last_layer_is_taken_where_there_is_no_choice(pair, tmp_path, monkeypatch):
    encoders, questions, options = pair(blind_from=3)
    options["cache_dir"] = tmp_path / "features"
    encoder = type(encoders.probe({}).query_encoder)
    with monkeypatch.context() as patched:
        plain = encoder.forward
        patched.setattr(encoder, "forward", lambda *given, **more: without_layers(plain(*given, **more)))
        assert choose_query_tokens(encoders, questions, **options) == ("last_hidden_state", {})
    nobody = Questions([], [], [], [], [])
    assert choose_query_tokens(encoders, replace(questions, validation=nobody), **options) == ("last_hidden_state", {})
    one = replace(questions.train, texts=questions.train.texts[:1], text_rows=[0] * len(questions.train))
    assert choose_query_tokens(encoders, replace(questions, train=one), **options) == ("last_hidden_state", {})


def without_layers(output):
    output.hidden_states = None
    return output


def test_train_takes_the_layer_and_says_so(pair, tmp_path, monkeypatch):
    _, questions, _ = pair(blind_from=3)
    folders = [str(tmp_path / name) for name in ("vit", "bert")]
    given = {"cache_dir": tmp_path / "features", "least_steps": 4, "epochs": 0.1, "progress": False}
    learnt = {side: [] for side in SIDES}
    plain = OTMergeModel.embed_side

    def embed_side(self, side, inputs, mask=None, features=None, rows=None):
        if self.training:
            learnt[side].append(len(features))
        return plain(self, side, inputs, mask, features, rows)

    monkeypatch.setattr(OTMergeModel, "embed_side", embed_side)
    result = train_merge(*folders, questions, tmp_path / "merge", questions_per_context=4, batch_size=8, **given)
    assert max(learnt["context"]) < min(learnt["query"]), "an image is there once for its questions"
    assert result.model.config.query_tokens == 2
    assert str(result).startswith(
        "Words: hidden layer 2 of the text encoder, by their error on validation: last layer"
    )
    saved = json.loads((tmp_path / "merge" / "results.json").read_text())
    assert saved["settings"]["tokens"]["query"] == 2
    assert list(saved["query_tokens_errors"]) == ["last_hidden_state", "2"]
    assert "Tokens of the text encoder were chosen by the error" in (tmp_path / "merge" / "README.md").read_text()
    assert "about" in str(plan_merge(*folders, questions))
    with pytest.raises(ValueError, match="`query_tokens` is 'autos'; expected one of auto, last_hidden_state, cls"):
        train_merge(*folders, questions, tmp_path / "other", query_tokens="autos", **given)


def test_ridge_errors_are_those_of_normal_equations():
    torch.manual_seed(0)
    x, weight = torch.randn(60, 5), torch.randn(5, 3)
    y, (eval_x, noise) = x @ weight + torch.randn(60, 3), (torch.randn(20, 5), torch.randn(20, 3))
    eval_y = eval_x @ weight + noise
    mean, std = x.mean(0), x.std(0)
    scaled, moved = ((part - mean) / std for part in (x, eval_x))
    tried = []
    for penalty in PENALTIES:
        solved = torch.linalg.solve(scaled.T @ scaled + penalty * torch.eye(5), scaled.T @ (y - y.mean(0)))
        tried.append((moved @ solved + y.mean(0) - eval_y).square().sum(1))
    expected = min(tried, key=lambda errors: errors.mean())
    torch.testing.assert_close(ridge_errors(x, y, eval_x, eval_y).float(), expected, rtol=1e-4, atol=1e-4)
