"""`examples/run_vqa.py` with tiny encoders: VQA v2's columns, an own folder, resuming, and mistakes."""

import json
import shutil

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

from otmerge_hf.analysis import evaluate_merge
from otmerge_hf.data import load_questions
from tests.data.question_folders import COLORS, picture, write_questions


STEPS = {"do_train": True, "max_steps": 8}


@pytest.fixture
def vqav2(tmp_path):
    """Forty questions with ten votes each, in the columns of lmms-lab/VQAv2."""
    names = list(COLORS)
    rows = []
    for row in range(40):
        votes = [names[row % 3]] * 8 + [names[(row + 1) % 3].title()] * 2
        rows.append({
            "question_type": "what color", "multiple_choice_answer": votes[0], "image_id": row, "answer_type": "other",
            "answers": [{"answer": vote, "answer_confidence": "yes", "answer_id": i} for i, vote in enumerate(votes)],
            "question_id": row, "question": "what color is the shape ?", "image": picture(row),
        })  # fmt: skip
    (tmp_path / "vqav2").mkdir()
    Dataset.from_list(rows).to_parquet(tmp_path / "vqav2" / "validation.parquet")
    return tmp_path / "vqav2"


def test_a_config_file_trains_and_scores_on_the_columns_of_vqa_v2(call, vqav2, encoder_folders, tmp_path, capsys):
    settings = {
        "context": encoder_folders[0], "query": encoder_folders[1], "data": str(vqav2), "preset": "vqav2",
        "train_split": "validation[:60%]", "validation_split": "validation[60%:80%]",
        "test_split": "validation[80%:]", "output_dir": str(tmp_path / "merge"),
        "cache_dir": str(tmp_path / "features"), "feature_dtype": "float16", "do_train": True, "do_eval": True,
        "max_steps": 30, "learning_rate": 0.01, "eval_strategy": "steps", "eval_steps": 10, "save_steps": 10,
        "load_best_model_at_end": True, "metric_for_best_model": "eval_accuracy", "use_cpu": True,
        "disable_tqdm": True,
    }  # fmt: skip
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    call("run_vqa", tmp_path / "settings.json")
    printed = capsys.readouterr().out
    assert "validation: 8 rows, 8 images, 1 distinct text, from validation" in printed
    found = json.loads((tmp_path / "merge" / "evaluation.json").read_text())
    assert f"On the test part: VQA accuracy {found['score']:.4f} on 8 rows" in printed
    assert found["score"] > 0.9
    assert list(found["by_kind"]) == ["question_type", "answer_type"]
    assert json.loads((tmp_path / "merge" / "all_results.json").read_text())["eval_score"] == found["score"]

    # the saved merge gives that score on the pictures themselves
    model = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "merge").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "merge")
    test = load_questions(vqav2, preset="vqav2", **{k: v for k, v in settings.items() if k.endswith("_split")}).test
    again = evaluate_merge(model, processor, test, cache_dir=tmp_path / "others", progress=False)
    assert again.score == pytest.approx(found["score"])


@pytest.mark.parametrize("named", [False, True])
def test_an_interrupted_training_goes_on_from_its_last_checkpoint(train, tmp_path, named):
    write_questions(tmp_path / "mine", 20)
    options = {"data": tmp_path / "mine", **STEPS, "save_strategy": "steps", "save_steps": 4}
    whole = train("run_vqa", "merge", **options)
    straight = load_file(whole / "model.safetensors")
    kept = whole / "checkpoint-4" / "model.safetensors"
    assert len(load_file(kept)) < len(straight), "checkpoints leave the frozen encoders out"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(whole / "checkpoint-8")
    (whole / "model.safetensors").unlink()
    train("run_vqa", "merge", **options, **({"resume_from_checkpoint": whole / "checkpoint-4"} if named else {}))
    assert kept.stat().st_mtime_ns == before, "the first four steps were not made again"
    again = load_file(whole / "model.safetensors")
    assert set(again) == set(straight)
    assert all(torch.allclose(value, again[name], atol=1e-6) for name, value in straight.items())


def test_grown_it_keeps_what_is_finished_and_other_settings_start_anew(train, tmp_path, monkeypatch):
    write_questions(tmp_path / "mine", 20)
    options = {"data": tmp_path / "mine", **STEPS, "grow": True}
    first = (train("run_vqa", "merge", **options) / "model.safetensors").read_bytes()
    monkeypatch.setattr("otmerge_hf.training.growth.train_fuser", None)  # would fail if it were called
    assert (train("run_vqa", "merge", **options) / "model.safetensors").read_bytes() == first
    with pytest.raises(TypeError):
        train("run_vqa", "merge", **options | {"learning_rate": 0.02})


def test_a_trained_merge_is_scored_again_but_not_on_other_answers(train, error, tmp_path):
    write_questions(tmp_path / "mine", 20)
    first = train("run_vqa", "merge", data=tmp_path / "mine", do_eval=True, **STEPS)
    again = train("run_vqa", "again", start=first, data=tmp_path / "mine", do_eval=True)
    assert (first / "evaluation.json").read_text() == (again / "evaluation.json").read_text()
    other = {"start": first, "data": tmp_path / "mine", "do_eval": True, "top_answers": 2}
    assert "`model` has 5 answers" in error(train, "run_vqa", "again", **other)


def test_mistakes_are_one_line(train, call, error, tmp_path, monkeypatch):
    write_questions(tmp_path / "mine", 8)
    mine = {"data": tmp_path / "mine"}
    assert "error: --data is missing" in error(train, "run_vqa", "merge")
    assert "give --context and --query" in error(train, "run_vqa", "merge", **mine, model_name_or_path="merge")
    assert "image_column: questions.csv has no column 'x'" in error(
        train, "run_vqa", "merge", **mine, image_column="x"
    )
    refused = error(train, "run_vqa", "merge", **mine, do_train=True, grow=True, resume_from_checkpoint="x")
    assert "--resume_from_checkpoint is not for --grow" in refused
    (tmp_path / "bad.yaml").write_text("context: a\nquery: b\noutput_dir: c\noutputdir: x\n")
    assert "['outputdir']" in error(call, "run_vqa", tmp_path / "bad.yaml")
    # Trainer makes the repository before it trains, and cannot here
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "repos/create" in error(train, "run_vqa", "pushed", **mine, **STEPS, push_to_hub=True, hub_token="none")
    assert not (tmp_path / "pushed" / "model.safetensors").exists()
