"""One cell of `speech`: closed forms on so many spoken captions, chosen on validation, tested on other voices."""

import shutil
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from otmerge_hf import OTMergeConfig, OTMergeModel
from otmerge_hf.alignment import Alignment
from otmerge_hf.alignment.choice import choose_fit
from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.encoders import resolve_encoder
from otmerge_hf.features import mean_features
from otmerge_hf.metrics import retrieval
from otmerge_hf.training import refine_alignment

from ..runner.cell import Place
from ..tasks.folder import data_folder
from ..tasks.speech import SECONDS, TESTED, VOICES, all_clips, encode_clips
from ..tasks.whisper import convert_whisper_base


# Name -> layers and how many of mean, deviation, maximum are taken of each. `otmerge align` takes the mean of a layer.
POOLINGS: dict[str, tuple[tuple[int, ...], int]] = {
    "last layer, mean": ((6,), 1),
    "layer 5, mean": ((5,), 1),
    "last layer, mean and deviation": ((6,), 2),
    "layers 5 and 6, mean and deviation": ((5, 6), 2),
}
PLAIN = "last layer, mean"


def run_cell(choices: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Every method on `choices["pairs"]` captions, drawn by `choices["draw"]`.

    Raises:
        FileNotFoundError: If the data or espeak-ng are missing.
        ImportError: If Whisper's packages are not installed.
    """
    states, texts = _features(place)
    size = len(states["train"])
    if choices["pairs"] > size:
        raise ValueError(f"`pairs` is {choices['pairs']}; there are {size} training captions.")
    drawn = torch.randperm(size, generator=torch.Generator().manual_seed(choices["draw"]))[: choices["pairs"]]
    methods, fits = {}, {}
    for name, (layers, parts) in POOLINGS.items():
        sides = _standardised(states, texts, drawn, layers, parts)
        choice = choose_fit((*sides["train"], None), (*sides["validation"], None))
        fits[name] = (choice.candidates[0].recall, choice.fit, sides)
        methods[name] = _tested(choice.fit, sides, choice.candidates[0].recall)
    best = max(fits, key=lambda name: fits[name][0])
    methods["best pooling"] = methods[best] | {"chosen": best}
    methods["last layer, mean, refined"] = _refined(*fits[PLAIN][1:], place)
    sides = dict(fits[PLAIN][2])
    order = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(choices["draw"]))
    sides["train"] = (sides["train"][0], sides["train"][1][order])
    shuffled = choose_fit((*sides["train"], None), (*sides["validation"], None))
    methods["control: captions shuffled"] = _tested(shuffled.fit, sides, shuffled.candidates[0].recall)
    voices = {"train": VOICES["train"], "validation": VOICES["validation"][0], "tested": TESTED}
    return {"candidates": len(states["test"]), "voices": voices, "methods": methods}


def compare_windows(choices: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Test clips heard in windows of 8 s, as in training, and of 30 s, as Whisper was trained: the same fit.

    `distance` is that of the last layer's means, as a share of their deviation from the mean clip.
    """
    states, texts = _features(place)
    clips = all_clips(data_folder())["test"][: choices["clips"]]
    cache = place.cache / "speech" / "states"
    whole = encode_clips(clips, convert_whisper_base(), cache, place.report_progress)
    order = torch.randperm(len(states["train"]), generator=torch.Generator().manual_seed(0))[: choices["window_pairs"]]
    short, result = states["test"][: len(clips)], {}
    for name, heard in (("8 s", short), ("30 s", whole)):
        sides = _standardised({**states, "test": heard}, texts, order, (6,), 1)
        if name == "8 s":
            fit = choose_fit((*sides["train"], None), (*sides["validation"], None)).fit
        pairs = torch.arange(len(clips))[:, None].expand(-1, 2)
        scores = retrieval(fit.transform_context(sides["test"][0]), fit.transform_query(sides["test"][1]), pairs)
        result[name] = scores["context_to_query_recall@1"]
    means = [states[:, 6, 0].float() for states in (short, whole)]
    distance = (means[1] - means[0]).norm() / (means[1] - means[1].mean(0)).norm()
    return {"clips": len(clips), "recall": result, "distance": distance.item(), "fit": repr(fit)}


def _features(place: Place) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pooled states (N, layers, 3, 512) of Whisper and mean features (N, 384) of MiniLM, by split or voice."""
    clips, folder, cache = all_clips(data_folder()), convert_whisper_base(seconds=SECONDS), place.cache / "speech"
    states = {}
    for number, (name, spoken) in enumerate(clips.items()):
        report = lambda share, number=number: place.report_progress((number + share) / (len(clips) + 1))  # noqa: E731
        states[name] = encode_clips(spoken, folder, cache / "states", report)
    tokens = {"context": ["last_hidden_state"], "query": ["last_hidden_state"]}
    inputs = {name: [clip.text for clip in clips[name]] for name in ("train", "validation", "test")}
    distinct = {name: list(dict.fromkeys(found)) for name, found in inputs.items()}
    options: dict[str, Any] = {"cache_dir": cache, "batch_size": None, "device": "cpu"}
    stores = EncoderPair(str(folder), "minilm-l6", tokens).encode("query", "last_hidden_state", distinct, **options)
    texts = {}
    for name, found in inputs.items():
        rows = {text: row for row, text in enumerate(distinct[name])}
        texts[name] = mean_features(stores[name])[[rows[text] for text in found]]
    return states, texts | dict.fromkeys(TESTED, texts["test"])


def _standardised(
    states: Mapping[str, Tensor], texts: Mapping[str, Tensor], drawn: Tensor, layers: tuple[int, ...], parts: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Both sides of every split, standardised by the training rows that were drawn."""
    sides = {}
    pooled = {name: rows[:, list(layers), :parts].flatten(1).float() for name, rows in states.items()}
    for name in states:
        of_train = (pooled["train"][drawn], texts["train"][drawn])
        given = of_train if name == "train" else (pooled[name], texts[name])
        sides[name] = tuple((x - y.mean(0)) / y.std(0).clamp_min(1e-4) for x, y in zip(given, of_train, strict=True))
    return sides  # type: ignore[return-value]


def _tested(fit: Alignment, sides: Mapping[str, tuple[Tensor, Tensor]], validation: float) -> dict[str, Any]:
    scores = {
        name: retrieval(fit.transform_context(sides[name][0]), fit.transform_query(sides[name][1])) for name in TESTED
    }
    return {"chosen": repr(fit), "validation": validation, "scores": scores}


def _refined(fit: Alignment, sides: Mapping[str, tuple[Tensor, Tensor]], place: Place) -> dict[str, Any]:
    """What `otmerge align --refine` makes of the fit."""
    folders = convert_whisper_base(seconds=SECONDS), resolve_encoder("minilm-l6")
    configs = [AutoConfig.from_pretrained(encoder) for encoder in folders]
    options: dict[str, Any] = {
        "adapter_type": "linear",
        "shared_dim": fit.shared_dim_,
        "context_feature_dim": 512,
        "standardize": False,
    }
    model = OTMergeModel(OTMergeConfig.from_encoder_configs(*configs, **options))
    model.load_alignment(fit, standardized=True)
    folder = place.cache / "speech" / "refined"
    train, validation = ((*sides[name], None) for name in ("train", "validation"))
    made = refine_alignment(model, train, validation, folder, batch_size=2048)
    shutil.rmtree(folder, ignore_errors=True)
    adapters: tuple[Any, Any] = (model.context_adapter, model.query_adapter)
    with torch.no_grad():
        scores = {
            name: retrieval(*(adapter(x[:, None])[:, 0] for adapter, x in zip(adapters, sides[name], strict=True)))
            for name in TESTED
        }
    return {"chosen": f"{made.steps} steps", "validation": made.after, "scores": scores}
