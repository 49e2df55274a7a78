"""One adapter of the suite `preservation`, aligned on unlabelled photographs: what it keeps, and what it entails."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.data import load_pair_splits
from otmerge_hf.features import mean_features
from otmerge_hf.model.modality import SIDES
from otmerge_hf.model.modeling_otmerge import OTMergeModel
from otmerge_hf.training.linear_fit import fit_linear_path

from ..runner.cell import Record
from ..runner.recipe import Recipe
from ..tasks.esnlive_f8k import ANSWERS, read_esnlive_f8k
from ..tasks.photographs import Example, Labelled, split_photographs
from .preservation_flickr8k import IMAGE_ENCODER, TOKENS, align, encoder_pair, read_rows
from .preservation_kept import measure_kept


def measure(choices: Mapping[str, Any], data: Path, cache: Path) -> Record:
    """Align on the training photographs without a label, measure on the test photographs and on entailment."""
    pair, own = encoder_pair(), read_esnlive_f8k(data)
    rows = _unlabelled(read_rows(pair, data, cache), own, data)
    model = align(choices, pair, rows)
    found = _entailed(model, own, _features(pair, own, cache), choices["seed"])
    return measure_kept(model, rows, IMAGE_ENCODER) | found


def _unlabelled(rows: dict[str, Tensor], own: Labelled, data: Path) -> dict[str, Tensor]:
    """The rows without labelled photographs and their captions in what is aligned on and chosen by."""
    names = {file.name for file in own.files}
    kept = dict(rows)
    splits = load_pair_splits(str(data / "flickr8k"))
    for name in ("train", "validation"):
        free = torch.tensor([Path(str(image)).name not in names for image in splits[name].images])
        pairs = rows[f"{name}.pairs"]
        pairs = pairs[free[pairs[:, 0]]]
        for place, side in enumerate(SIDES):
            numbers, pairs[:, place] = pairs[:, place].unique(return_inverse=True)
            kept[f"{name}.{side}"] = rows[f"{name}.{side}"][numbers]
        kept[f"{name}.pairs"] = pairs.contiguous()
    return kept


def _features(pair: EncoderPair, own: Labelled, cache: Path) -> dict[str, Tensor]:
    """Mean features of the labelled photographs and of the hypotheses, by side; made once for all cells."""
    file = cache / "preservation-entailment.safetensors"
    if not file.exists():
        options: dict[str, Any] = {"cache_dir": cache / "flickr8k", "batch_size": None, "device": "cpu"}
        made = {}
        inputs: dict[str, Sequence[Any]] = {"context": own.files, "query": own.texts}
        for side in SIDES:
            made[side] = mean_features(pair.encode(side, TOKENS, {"all": inputs[side]}, **options)["all"])
        save_file(made, file)
    return load_file(file)


@torch.no_grad()
def _entailed(model: OTMergeModel, own: Labelled, features: dict[str, Tensor], seed: int) -> Record:
    """Test accuracy of the hypothesis and the cosine, and of the hypothesis alone; the AUC of the cosine by itself.

    Strengths are chosen on a fifth of the labelled photographs, as `grow_answers` does, and fitted again on all.
    """
    from scipy.stats import mannwhitneyu

    standard = {side: getattr(model, f"{side}_standardizer")(features[side]) for side in SIDES}
    shared = {side: getattr(model, f"{side}_adapter")(standard[side]) for side in SIDES}
    place = [{value: number for number, value in enumerate(values)} for values in (own.files, own.texts)]

    def parts(examples: list[Example]) -> tuple[dict[str, Tensor], Tensor]:
        contexts = [place[0][row.file] for row in examples]
        queries = [place[1][row.text] for row in examples]
        cosines = nn.functional.cosine_similarity(shared["query"][queries], shared["context"][contexts])
        labels = torch.tensor([ANSWERS.index(row.answer) for row in examples])
        return {"query": standard["query"][queries], "cosine": cosines[:, None]}, labels

    held = set(split_photographs(own.name, {row.file for row in own.train}, Recipe(seed=seed))["validation"])
    fitted, labels = parts([row for row in own.train if row.file not in held])
    chosen_by, their_labels = parts([row for row in own.train if row.file in held])
    every, all_labels = parts(own.train)
    test, truth = parts(own.test)
    found: Record = {"labels": len(own.train)}
    for name, names in (("words", ["query"]), ("entailment", ["query", "cosine"])):
        given, validation, whole = ({part: of[part] for part in names} for of in (fitted, chosen_by, every))
        first = fit_linear_path(given, labels, validation, their_labels, len(ANSWERS))
        fit = fit_linear_path(whole, all_labels, {}, all_labels[:0], len(ANSWERS), again=first)
        read = (test[part] @ weight.T for part, weight in fit.weights.items())
        logits = sum(read, fit.bias.expand(len(truth), -1))
        found[name] = (logits.argmax(1) == truth).double().mean().item()
        found["kept"] = sorted(fit.weights)
    cosines = test["cosine"][:, 0]
    sides = [cosines[truth == ANSWERS.index(answer)] for answer in ("entailment", "contradiction")]
    found["auc"] = float(mannwhitneyu(*(side.numpy() for side in sides)).statistic / (len(sides[0]) * len(sides[1])))
    return found
