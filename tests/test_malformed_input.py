"""Malformed input of many kinds: a finite answer, or one line raised by the package; never an error from below it."""

import math
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import pipeline

import otmerge_hf
from otmerge_hf.features import FeatureCollator, compute_features


OURS = str(Path(otmerge_hf.__file__).parent)
QUICK = {"max_examples": 25, "derandomize": True, "database": None, "deadline": None}
MANY = QUICK | {"max_examples": 300}
QUICK["suppress_health_check"] = MANY["suppress_health_check"] = list(HealthCheck)
MODES = ["RGB", "L", "LA", "P", "I", "F", "1", "CMYK", "RGBA", "I;16", "HSV", "YCbCr", "LAB", "PA", "La", "RGBa"]
SIZES = [(0, 0), (1, 1), (1, 300), (3, 2), (40, 40)]
SHAPES = [(4, 4), (4, 4, 3), (3, 4, 4), (4, 4, 1), (4, 4, 5), (0, 4, 3), (2, 4, 4, 3), (3,), (), (1, 1, 1)]
DTYPES = ["uint8", "float32", "float64", "int64", "bool", "uint16", "complex64", "int8", "float16", "<U3", "object"]
CASTS = [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int32, torch.bool, torch.complex64]


def junk(r, depth=0):
    """Anything at all."""
    if depth < 2 and r.random() < 0.3:
        return r.choice([list, tuple])([junk(r, depth + 1) for _ in range(r.randint(0, 3))])
    makers = [
        lambda: r.choice(
            [None, True, 0, -1, 1.5, math.nan, math.inf, 10**30, b"x", object(), {}, {"a": 1}, set(), 2j]
        ),
        lambda: r.choice(
            ["", " ", "red", "\x00", "\ud800", "\u200b", "no/such.png", "data:image/png;base64,x", "x" * 999]
        ),
        lambda: r.choice([np.zeros(3), np.zeros((0, 3)), np.array("x"), np.zeros((2, 2, 2, 2, 2)), Image, range(3)]),
        lambda: r.choice([torch.zeros(2), torch.zeros(0), torch.ones(3, 4, 4, dtype=torch.uint8), iter([]), Path()]),
    ]
    return r.choice(makers)()


def image(r):
    kind = r.randint(0, 3)
    if kind == 0:
        return junk(r)
    if kind == 1:
        return Image.new(r.choice(MODES), r.choice(SIZES))
    dtype = r.choice(DTYPES)
    array = np.ones(r.choice(SHAPES), dtype)
    if "float" in dtype and r.random() < 0.4:
        array = array * np.nan
    return torch.as_tensor(array) if kind == 2 and dtype not in ("complex64", "<U3", "object", "uint16") else array


def text(r):
    kind = r.randint(0, 2)
    if kind == 0:
        return junk(r)
    if kind == 1:
        codes = [r.choice([r.randint(0, 0x10FFFF), r.randint(32, 126), r.randint(0, 31), 0x200B]) for _ in range(8)]
        return "".join(map(chr, codes[: r.randint(0, 8)]))
    return [junk(r, 1) if r.random() < 0.4 else "what color ?" for _ in range(r.randint(0, 4))]


def changed(r, value):
    """A tensor that is no longer what it was."""
    changes = [
        lambda: None,
        lambda: value.float() * math.nan,
        lambda: value[: r.randint(0, 2)],
        lambda: value[..., : r.randint(0, value.shape[-1])],
        lambda: value.to(r.choice(CASTS)),
        lambda: value * r.choice([-1, 10**6, 0, 1e20]),
        lambda: value[None],
        lambda: value.flatten(),
        lambda: value.tolist(),
        lambda: value.numpy(),
        lambda: torch.empty(0),
        lambda: value.transpose(0, -1),
        lambda: value.repeat(*[r.choice([1, 2]) for _ in value.shape]),
        lambda: junk(r),
    ]
    return r.choice(changes)()


@pytest.fixture
def targets(merge, processor, batch, tmp_path):
    """`{name: function of a random generator that makes a malformed call}`."""
    model = merge()
    pipe = pipeline("otmerge-vqa", model=model, processor=processor, device="cpu")
    tokens = lambda items: (torch.ones(len(items), 3, 16), None)  # noqa: E731
    store = compute_features(tokens, ["a", "b", "c"], cache_dir=tmp_path, key={}, progress=False)
    collate = FeatureCollator(store, store, num_labels=3)

    def process(r):
        given = {
            "images": image(r) if r.random() < 0.5 else [image(r) for _ in range(r.randint(0, 3))],
            "text": text(r),
        }
        for name in r.sample(list(given), r.randint(0, 1)):
            del given[name]
        if r.random() < 0.2:
            given[r.choice(["padding", "truncation", "max_length", "return_tensors", "size"])] = junk(r)
        return processor(**({"return_tensors": "pt"} | given))

    def answer(r):
        inputs = batch | {"labels": torch.tensor([0, 1, 2])}
        more = {"context_features": torch.randn(3, 5, 16), "context_features_mask": torch.ones(3, 5)}
        more |= {"image_mask": torch.ones(3, 1), "token_type_ids": torch.zeros(3, 7).long()}
        inputs |= {name: more[name] for name in r.sample(list(more), r.randint(0, 2))}
        for name in r.sample(list(inputs), r.randint(1, 2)):
            inputs[name] = changed(r, inputs[name])
        return model(**inputs)

    def ask(r):
        inputs = [image(r) if r.random() < 0.6 else [image(r)], text(r)]
        if r.random() < 0.2:
            inputs = [{r.choice(["image", "img"]): image(r), r.choice(["question", "q"]): text(r)}]
        options = {r.choice(["top_k", "batch_size", "context", "foo"]): junk(r)} if r.random() < 0.3 else {}
        return pipe(*inputs, **options)

    def look_up(r):
        rows = [{"context_features": 0, "query_features": 1, "labels": 2} for _ in range(r.randint(1, 3))]
        row = r.choice(rows)
        odd = [7, -5, 1.5, "1", [0, 1], [], [[0]], {"answers": [0], "scores": [1.0]}, {"answers": ["x"]}, 10**20]
        row[r.choice(list(row))] = r.choice([r.choice(odd), junk(r)])
        if r.random() < 0.2:
            del row[r.choice(list(row))]
        return model(**collate(rows))

    return {"processor": process, "model": answer, "pipeline": ask, "collator": look_up}


def is_finite(value):
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, (list, tuple)):
        return all(map(is_finite, value))
    if hasattr(value, "items"):
        return all(is_finite(item) for item in value.values())
    return not isinstance(value, float) or math.isfinite(value)


def check(call, r):
    try:
        with torch.no_grad():
            found = call(r)
    except (ValueError, TypeError, OSError, IndexError) as error:
        deepest = traceback.extract_tb(error.__traceback__)[-1].filename
        if not (deepest.startswith(OURS) and str(error).strip()):
            raise  # from below the package
    else:
        assert is_finite(found)


@pytest.mark.parametrize("name", ["processor", "model", "pipeline", "collator"])
def test_python(targets, name):
    settings(**QUICK)(given(st.randoms(use_true_random=True))(lambda r: check(targets[name], r)))()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processor", "model", "pipeline", "collator"])
def test_python_at_length(targets, name):
    settings(**MANY)(given(st.randoms(use_true_random=True))(lambda r: check(targets[name], r)))()
