"""The pipeline: every way of giving an image and a question, and one answer for all of them."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from test_errors import refused
from transformers import pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel, OTMergeTextProcessor, OTMergeVQAPipeline
from otmerge_hf.features import encode


QUESTION = "what color is the shape ?"


@pytest.fixture
def pipe(merge, processor):
    return pipeline("otmerge-vqa", model=merge(), processor=processor)


@pytest.fixture
def expected(pipe, images):
    """Answers of the three images by the model itself, without the pipeline."""
    answers = []
    for image in images:
        inputs = pipe.processor(images=image, text=QUESTION, return_tensors="pt")
        with torch.no_grad():
            scores = pipe.model(**inputs).logits[0].softmax(-1)
        order = scores.argsort(descending=True).tolist()
        answers.append([{"score": scores[i].item(), "answer": pipe.model.config.id2label[i]} for i in order])
    return answers


def assert_same(found, expected):
    assert [a["answer"] for a in found] == [a["answer"] for a in expected]
    assert [a["score"] for a in found] == pytest.approx([a["score"] for a in expected], abs=1e-6)


@pytest.mark.parametrize("task", ["otmerge-vqa", "visual-question-answering", "vqa"])
def test_every_name(merge, processor, images, expected, task):
    found = pipeline(task, model=merge(), processor=processor)
    assert isinstance(found, OTMergeVQAPipeline)
    assert_same(found(images[0], QUESTION), expected[0])


def test_every_kind_of_image(pipe, images, expected, tmp_path):
    path = tmp_path / "red.png"
    images[0].save(path)
    encoded = base64.b64encode(path.read_bytes()).decode()
    for image in (images[0], str(path), path, encoded, f"data:image/png;base64,{encoded}"):
        assert_same(pipe(image, QUESTION), expected[0])
        assert_same(pipe(image=image, question=QUESTION), expected[0])
        assert_same(pipe({"image": image, "question": QUESTION}), expected[0])
    transparent = images[0].convert("RGBA")
    assert_same(pipe(transparent, QUESTION), expected[0])


def test_lists_generators_and_data_sets(pipe, images, expected):
    rows = [{"image": image, "question": QUESTION} for image in images]

    class Lazy(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            return rows[index]

    pictures = Dataset.from_list([{"question": QUESTION, "image": _encoded(image)} for image in images])
    ways = {
        "lists": pipe(images, [QUESTION] * 3),
        "tuples": pipe(tuple(images), (QUESTION,) * 3),
        "dicts": pipe(rows),
        "generator": list(pipe(row for row in rows)),
        "torch data set": list(pipe(Lazy())),
        "data set": list(pipe(pictures)),
    }
    for way, found in ways.items():
        assert len(found) == 3, way
        for one, wanted in zip(found, expected, strict=True):
            assert_same(one, wanted)


def _encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_batches_equal_single_calls(pipe, images):
    rows = [
        {"image": image, "question": question}
        for image in images
        for question in ("what ?", QUESTION, "is there a red circle ?")
    ]
    single = [pipe(row) for row in rows]
    for size in (3, 4):
        for one, wanted in zip(pipe(rows, batch_size=size), single, strict=True):
            assert_same(one, wanted)


def test_one_image_many_questions_and_the_other_way_round(pipe, images, expected):
    questions = [QUESTION, "is there a red shape ?"]
    many = pipe(images[0], questions)
    assert len(many) == 2
    assert_same(many[0], expected[0])
    assert_same(many[1], pipe(images[0], questions[1]))
    for one, wanted in zip(pipe(images, QUESTION), expected, strict=True):
        assert_same(one, wanted)
    assert isinstance(pipe(images[0], [QUESTION])[0], list)  # a list in, a list out


def test_top_k(pipe, images, expected):
    assert_same(pipe(images[0], QUESTION, top_k=2), expected[0][:2])
    assert len(pipe(images[0], QUESTION, top_k=100)) == 3
    assert sum(a["score"] for a in pipe(images[0], QUESTION)) == pytest.approx(1, abs=1e-5)


def test_scores_of_soft_answers_are_sigmoids(merge, processor, images, batch, tmp_path):
    model = merge(problem_type="multi_label_classification")
    model(**batch, labels=torch.rand(3, 3))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    found = pipeline("otmerge-vqa", model=str(tmp_path))(images[0], QUESTION)
    with torch.no_grad():
        logits = model(**processor(images=images[0], text=QUESTION, return_tensors="pt")).logits[0]
    assert [a["score"] for a in found] == pytest.approx(logits.sigmoid().sort(descending=True).values.tolist())


def test_half_precision(merge, processor, images):
    pipe = pipeline("otmerge-vqa", model=merge().to(torch.bfloat16), processor=processor)
    assert len(pipe(images[0], QUESTION)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "`question` is missing"),
        (("red.png",), "`question` is missing"),
        ((Image.new("RGB", (8, 8)),), "`question` is missing"),
        ((None, QUESTION), "`image` is missing"),
        (([Image.new("RGB", (8, 8))] * 2, [QUESTION] * 3), "Got 2 images and 3 questions; expected as many, or one"),
        (({"image": Image.new("RGB", (8, 8))},), "An input lacks question"),
        (([{"question": QUESTION}],), "An input lacks image"),
        ((Image.new("RGB", (8, 8)), "  "), "`text` row 0 is empty"),
        (("missing.png", QUESTION), "`image` 'missing.png' is not an existing file, a URL, or a base64 image"),
        ((3, QUESTION), "`image` '3' is not an existing file"),
    ],
)
def test_wrong_arguments(pipe, arguments, said):
    with pytest.raises(ValueError, match=said) as raised:
        pipe(*arguments)
    assert "\n" not in str(raised.value)


def test_file_that_is_no_image(pipe, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"`image` '.*notes.png' cannot be opened: cannot identify image file"):
        pipe(str(tmp_path / "notes.png"), QUESTION)


def test_long_path_is_shown_to_its_end(pipe):
    with pytest.raises(ValueError, match=r"`image` '/folder/.*\.\.\..*/missing.png' is not an existing file"):
        pipe("/folder" * 60 + "/missing.png", QUESTION)


@pytest.mark.parametrize("top_k", [0, -1, "2", 1.5])
def test_wrong_top_k(pipe, images, top_k):
    with pytest.raises(ValueError, match="`top_k` is"):
        pipe(images[0], QUESTION, top_k=top_k)


def test_misspelt_option(pipe, images):
    with pytest.raises(TypeError, match="Unexpected arguments: topk"):
        pipe(images[0], QUESTION, topk=2)


def test_importing_again_registers_nothing_twice(caplog):
    import importlib

    import otmerge_hf

    before = {task: PIPELINE_REGISTRY.supported_tasks[task]["impl"] for task in ("vqa", "otmerge-vqa")}
    importlib.reload(otmerge_hf)
    assert {task: PIPELINE_REGISTRY.supported_tasks[task]["impl"] for task in before} == before
    assert not caplog.records


def test_zero_shot_image_classification_of_transformers(merge, processor, images, tmp_path):
    model = merge(cls=OTMergeModel)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    labels = ["red", "green circle", "blue shape"]
    zero_shot = pipeline("zero-shot-image-classification", model=str(tmp_path))
    found = zero_shot(images[0], candidate_labels=labels, hypothesis_template="the shape is {}")
    inputs = processor(images=images[0], text=[f"the shape is {x}" for x in labels], return_tensors="pt")
    with torch.no_grad():
        scores = model(**inputs).logits_per_image[0].softmax(-1)
    assert [a["label"] for a in found] == [labels[i] for i in scores.argsort(descending=True)]
    assert [a["score"] for a in found] == pytest.approx(scores.sort(descending=True).values.tolist(), abs=1e-6)
    assert len(zero_shot(images, candidate_labels=labels)) == 3


def test_pipeline_saves_a_folder_that_answers(pipe, images, expected, tmp_path):
    pipe.model.save_pretrained(tmp_path)
    pipe.processor.save_pretrained(tmp_path)
    assert_same(pipeline("otmerge-vqa", model=Path(tmp_path))(images[0], QUESTION), expected[0])
    model = type(pipe.model).from_pretrained(tmp_path)
    assert_same(OTMergeVQAPipeline(model=model)(images[0], QUESTION), expected[0])  # finds its processor


def test_a_merge_without_an_answer_head_is_refused(merge, processor, tmp_path, images):
    """Loaded for answering it would get a random head, and say so only in a log that is often off."""
    aligned = merge().otmerge
    aligned.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no answer head, and answers would be random"):
        pipeline("otmerge-vqa", model=str(tmp_path))
    trained = OTMergeForQuestionAnswering.from_pretrained(tmp_path)
    trained.train()
    assert len(pipeline("otmerge-vqa", model=trained.eval(), processor=processor)(images[0], QUESTION)) > 1


def test_arrays_are_asked_as_images_are(pipe, processor, images, tmp_path):
    arrays = [np.asarray(image) for image in images]
    expected = pipe(images, QUESTION)
    assert pipe(arrays, QUESTION) == expected
    assert pipe(arrays[0], QUESTION) == expected[0]
    assert pipe([{"image": array, "question": QUESTION} for array in arrays]) == expected
    made = processor(images=images, return_tensors="pt")["pixel_values"]
    for given in (arrays, np.stack(arrays), [torch.from_numpy(a.copy()).permute(2, 0, 1) for a in arrays]):
        assert torch.equal(processor(images=given, return_tensors="pt")["pixel_values"], made)
    context = encode(pipe.model, processor, "context", arrays, cache_dir=tmp_path, progress=False)
    whole = encode(pipe.model, processor, "context", images, cache_dir=tmp_path, progress=False)
    assert torch.equal(context.batch(range(3))[0], whole.batch(range(3))[0])


PASSAGES = ["there is a red shape", "the shape is green", "a blue shape"]


@pytest.fixture
def reader(merge, tokenizer, tmp_path):
    """The pipeline of two text encoders, from a folder."""
    merge("bert").save_pretrained(tmp_path / "reader")
    OTMergeTextProcessor(tokenizer, tokenizer).save_pretrained(tmp_path / "reader")
    return pipeline("otmerge-vqa", model=str(tmp_path / "reader"), device="cpu")


def test_passages_are_asked_as_images_are(reader):
    raw = reader.processor(context_text=PASSAGES, text=[QUESTION] * 3, return_tensors="pt")
    with torch.no_grad():
        scores = reader.model(**raw).logits.softmax(-1)
    answers = reader(context=PASSAGES, question=QUESTION, top_k=1)
    assert len({answer[0]["score"] for answer in answers}) == 3
    for answer, row in zip(answers, scores, strict=True):
        assert answer[0]["answer"] == reader.model.config.id2label[int(row.argmax())]
        assert answer[0]["score"] == pytest.approx(row.max().item(), abs=1e-5)
    assert reader(PASSAGES[0], QUESTION, top_k=1) == answers[0]
    rows = [{"context": passage, "question": QUESTION} for passage in PASSAGES]
    for given in (rows, (row for row in rows), Dataset.from_list(rows)):
        assert list(reader(given, top_k=1)) == answers


def test_passages_and_images_are_not_mixed(pipe, reader, images):
    with refused("`context` is given; expected `image` alone: the merge looks at images"):
        pipe(context=PASSAGES[0], question=QUESTION)
    with refused("`text` holds a Image; expected a string"):
        reader(image=images[0], question=QUESTION)
    with refused("`context` is missing; expected a passage"):
        reader(question=QUESTION)
    with refused("`question` is missing; expected a string, or dicts with `context` and `question`"):
        reader(PASSAGES[0])
    with refused("An input lacks context; expected `context` and `question`"):
        reader({"image": images[0], "question": QUESTION})
    with refused("Got 3 texts and 2 questions; expected as many, or one"):
        reader(context=PASSAGES, question=[QUESTION] * 2)
    with refused("`text` row 0 is empty|`context_text` row 0 is empty"):
        reader(context=" ", question=QUESTION)


def test_classification_takes_a_statement_nothing_or_rows(merge, processor, images):
    model = merge(id2label={0: "true", 1: "false"})
    pipe = pipeline("otmerge-classification", model=model, processor=processor, device="cpu")
    ask = pipeline("otmerge-vqa", model=model, processor=processor, device="cpu")
    statement = "there is a red square"

    def named(answers):
        return [{"score": one["score"], "label": one["answer"]} for one in answers]

    assert pipe(images[0], text=statement) == named(ask(images[0], statement))
    assert pipe(images[0]) == named(ask(images[0], "."))
    rows = [{"image": images[0], "text": statement}, {"image": images[1]}]
    assert pipe(rows) == [named(ask(images[0], statement)), named(ask(images[1], "."))]
    assert pipe(images[:2], text=[statement, ""]) == pipe(rows)
    table = Dataset.from_dict({"text": [statement], "image": [images[0]]})
    assert list(pipe(table)) == pipe(rows)[:1]
    with pytest.raises(ValueError, match="`image` is missing"):
        pipe(text=statement)
