"""What a merge's adapters keep of Flickr8k's test rows: the encoders' own abilities on features that came back."""

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

from otmerge_hf.analysis import jacobian_spectrum, relative_error
from otmerge_hf.encoders import resolve_encoder
from otmerge_hf.metrics import mutual_knn, retrieval
from otmerge_hf.model.adapters import Adapter
from otmerge_hf.model.modality import SIDES
from otmerge_hf.model.modeling_otmerge import OTMergeModel

from ..runner.cell import Record


SENTENCE_PAIRS, JACOBIANS = 20_000, 8


@torch.no_grad()
def measure_kept(model: OTMergeModel, rows: dict[str, Tensor], image_encoder: str) -> Record:
    """Retrieval on the test rows, and what each side's adapter keeps of them.

    Args:
        model: The aligned merge.
        rows: `train.context`, `train.query`, `test.context`, `test.query` and `test.pairs`.
        image_encoder: Name of the image encoder, whose classifier is asked.
    """
    shared: dict[str, Tensor] = {}
    found: Record = {}
    for side in SIDES:
        adapter, standardizer = getattr(model, f"{side}_adapter"), getattr(model, f"{side}_standardizer")
        train, test = (standardizer(rows[f"{name}.{side}"]) for name in ("train", "test"))
        shared[side] = adapter(test)
        spectrum = jacobian_spectrum(adapter, test[:JACOBIANS])
        stretch = {
            "condition": spectrum.condition.median().item(),
            "effective_dimension": spectrum.effective_dimension.mean().item(),
        }
        kept, before = [], rows[f"test.{side}"]
        for way, back in _ways_back(adapter, train, test):
            again = back * standardizer.std + standardizer.mean
            found_again = _classified(before, again, image_encoder) if side == "context" else _compared(before, again)
            kept.append({"way": way, "error": relative_error(back, test)} | found_again)
        found[side] = kept[0] | stretch | {other["way"]: other for other in kept[1:]}
    recall = retrieval(shared["context"], shared["query"], rows["test.pairs"])["mean_recall@1"]
    return {"recall": recall} | found


def _ways_back(adapter: Adapter, train: Tensor, test: Tensor) -> list[tuple[str, Tensor]]:
    """By the inverse; without one, by the decoder if any, and by the best linear map back, fitted afterwards."""
    z = adapter(test)
    if adapter.invertibility in ("exact", "left-inverse"):
        return [("inverse", adapter.inverse(z))]
    shared = adapter(train).double()
    centre = shared.mean(0)
    weight = torch.linalg.lstsq(shared - centre, train.double(), driver="gelsd").solution
    fitted = ((z.double() - centre) @ weight + train.double().mean(0)).to(test)
    return [*([] if adapter.decoder is None else [("decoder", adapter.decoder(z))]), ("fitted", fitted)]


def _classified(features: Tensor, again: Tensor, encoder: str) -> Record:
    """The encoder's own ImageNet classifier on both; its input is the mean of the last map."""
    folder = resolve_encoder(encoder, None)
    classifier = AutoModelForImageClassification.from_pretrained(folder).eval().classifier
    before, after = (classifier(x).double().log_softmax(1) for x in (features, again))
    five = [scores.topk(5).indices for scores in (before, after)]
    return {
        "top1": (before.argmax(1) == after.argmax(1)).double().mean().item(),
        "top5": (five[0][:, :, None] == five[1][:, None, :]).any(2).double().mean().item(),
        "kl": (before.exp() * (before - after)).sum(1).mean().item(),
    }


def _compared(features: Tensor, again: Tensor) -> Record:
    """Cosines of sentence pairs, and each sentence's nearest other, before and after."""
    from scipy.stats import spearmanr

    unit = [nn.functional.normalize(x, dim=1) for x in (features, again)]
    drawn = torch.randint(len(features), (SENTENCE_PAIRS, 2), generator=torch.Generator().manual_seed(0))
    first, second = drawn[drawn[:, 0] != drawn[:, 1]].T
    cosines = [(x[first] * x[second]).sum(1) for x in unit]
    return {"spearman": float(spearmanr(*cosines).statistic), "nearest": mutual_knn(unit[0], unit[1], k=1)}
