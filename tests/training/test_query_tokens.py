"""The layer of the text encoder that `otmerge train` takes."""

import random
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.data import load_questions
from otmerge_hf.model.modality import SIDES
from otmerge_hf.training import choose_query_tokens
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
        write_rows(data, [word for word in tokenizer.get_vocab() if word.isalpha()])
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
    assert "The hidden layer 2 is taken." in caplog.text


def test_the_last_layer_is_kept_where_the_middle_one_is_no_gain(pair, tmp_path):
    encoders, questions, options = pair(blind_from=1)  # neither knows a word
    chosen = choose_query_tokens(encoders, questions, cache_dir=tmp_path / "features", **options)
    assert chosen.choice == "last_hidden_state"
    assert chosen.errors["2"] == pytest.approx(chosen.errors["last_hidden_state"], rel=1e-3)


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
