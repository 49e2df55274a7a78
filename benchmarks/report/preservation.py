"""Cells of `preservation` -> Markdown: what comes back, beside retrieval and beside answers."""

from collections import defaultdict
from collections.abc import Sequence

from ..runner.cell import Record
from ..suites.preservation import CLOSED, STATEMENTS, TRAINED
from .intervals import estimate
from .table import interval


_FLICKR8K = (
    "1,000 test photographs, 4,993 captions of Flickr8k; aligned on 6,000 photographs with 30,000 captions. Recall: "
    "mean Recall@1 of both directions. Top-1, top-5: share that EfficientNet-Lite0's own ImageNet classifier keeps of "
    "its first answer, and of its five, on features that went to the shared space and back; KL in nats. Spearman: of "
    "20,000 cosines of MiniLM-L6's caption features before and after; nearest: share of captions whose nearest other "
    "is still the same. Error: norm of the difference over that of the standardised features. Back by the exact "
    "`inverse`, the `decoder` that learned, or the best linear map from shared to encoder, `fitted` afterwards on the "
    "training photographs. `pca`: no alignment, about what a linear map to that width can keep at most. Scale: of the "
    "coordinates that keep what the alignment does not read; 1 gives them full weight in the cosine. Mean over seeds, "
    "95% t interval; closed forms have no seed."
)
_ENTAILMENT = (
    "e-SNLI-VE on Flickr8k: 4,155 test questions, 3,217 to learn from, about 518 photographs. The same adapters, "
    "aligned on those 5,602 training photographs of Flickr8k that carry no label; recall and top-1 as above, of these "
    "maps. "
    "Entailment: test accuracy of a linear model of the hypothesis's mean feature and the cosine of hypothesis and "
    "photograph in the shared space, adapters frozen. A fifth of the labelled photographs chooses the penalty, and "
    "whether the cosine enters; then all are fitted on. A seed draws that fifth, and the adapters' training. "
    "Difference: to the same model of the hypothesis alone, seed by seed. AUC: chance that the cosine, with nothing "
    "fitted, is larger for an entailed hypothesis than for a contradicted one. Mean over seeds, 95% t interval."
)
_STATEMENTS = (
    "9,673 test questions of easy-VQA, answered by the nearest statement after contrastive alignment on statements of "
    "unlabelled images; 128 numbers are read. `mlp`: two-layer networks into 128, no way back. `square`: the text "
    "adapter is a bijection of R^384, one coupling after a linear bijection; the image features, 112 numbers, are "
    "filled up with zeros. `beside`: the numbers that are read come from a network, and all features lie beside them."
)


def by_row(records: Sequence[Record]) -> dict[str, dict[tuple, list[Record]]]:
    """Data set -> adapter and settings -> the cells of all seeds."""
    found: dict[str, dict[tuple, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        settings = record["settings"]
        axes = ("read", "scale") if settings["data"] == "easy-vqa" else ("scale", "reconstruction_weight")
        row = (settings["adapter"], settings["shared_dim"], *(settings[axis] for axis in axes))
        found[settings["data"]][row].append(record)
    return found


def markdown(records: Sequence[Record]) -> str:
    """Both data sets, as far as they have cells."""
    found = by_row(records)
    machines = sorted({", ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records})
    parts = ["; ".join(machines) + "."]
    if rows := found["flickr8k"]:
        parts += ["## Photographs", _FLICKR8K, _photographs(rows)]
    if rows := found["esnlive_f8k"]:
        parts += ["## Entailment", _ENTAILMENT, _entailment(rows)]
    if rows := found["easy-vqa"]:
        parts += ["## easy-VQA", _STATEMENTS, _statements(rows)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _photographs(found: dict[tuple, list[Record]]) -> str:
    head = [
        "adapter",
        "width read",
        "scale",
        "reconstruction weight",
        "seeds",
        "recall",
        "back, image",
        "top-1",
        "top-5",
    ]
    head += ["KL", "error, image", "Spearman", "nearest", "error, text", "condition, image / text"]
    rows = []
    for row in [row for row in (*CLOSED, *TRAINED) if row in found]:
        cells, (adapter, width, scale, weight) = found[row], row
        recall = interval(estimate([cell["recall"] for cell in cells]))
        about = [adapter, str(width), "-" if scale is None else f"{scale:g}", f"{weight:g}", str(len(cells)), recall]
        image, text = (_means([cell[side] for cell in cells]) for side in ("context", "query"))
        condition = f"{image['condition']:.3g} / {text['condition']:.3g}"
        rows.append([*about, cells[0]["context"]["way"], *_kept(image, text), condition])
        if "fitted" in cells[0]["context"]:
            afterwards = (_means([cell[side]["fitted"] for cell in cells]) for side in ("context", "query"))
            rows.append([*about, "fitted", *_kept(*afterwards), condition])
    return _table(head, rows)


def _means(cells: Sequence[Record]) -> dict[str, float]:
    return {
        name: estimate([cell[name] for cell in cells]).mean for name, value in cells[0].items() if type(value) is float
    }


def _kept(image: dict[str, float], text: dict[str, float]) -> list[str]:
    parts = [f"{image['top1']:.4f}", f"{image['top5']:.4f}", f"{image['kl']:.2g}", f"{image['error']:.2g}"]
    return [*parts, f"{text['spearman']:.4f}", f"{text['nearest']:.4f}", f"{text['error']:.2g}"]


def _entailment(found: dict[tuple, list[Record]]) -> str:
    head = ["adapter", "width read", "scale", "reconstruction weight", "seeds", "recall", "back, image", "top-1"]
    head += ["entailment", "difference to words", "cosine entered", "AUC"]
    rows = []
    for row in [row for row in (*CLOSED, *TRAINED) if row in found]:
        cells, (adapter, width, scale, weight) = found[row], row
        recall, accuracy, auc = (estimate([cell[name] for cell in cells]) for name in ("recall", "entailment", "auc"))
        gain = estimate([cell["entailment"] - cell["words"] for cell in cells])
        image = _means([cell["context"] for cell in cells])
        entered = sum("cosine" in cell["kept"] for cell in cells)
        about = [adapter, str(width), "-" if scale is None else f"{scale:g}", f"{weight:g}", str(len(cells))]
        about += [f"{recall.mean:.4f}", cells[0]["context"]["way"], f"{image['top1']:.4f}", interval(accuracy)]
        rows.append([*about, interval(gain, sign=True), f"{entered} of {len(cells)}", f"{auc.mean:.4f}"])
    words = estimate([cell["words"] for cell in max(found.values(), key=len)])
    return f"The hypothesis alone: {interval(words)}.\n\n" + _table(head, rows)


def _statements(found: dict[tuple, list[Record]]) -> str:
    head = ("adapter", "width", "scale", "seeds", "accuracy", "error, image", "error, text", "adapters' parameters")
    rows = []
    for row in [row for row in STATEMENTS if row in found]:
        cells = found[row]
        errors = [
            "-" if cells[0]["error"][side] is None else f"{max(cell['error'][side] for cell in cells):.2g}"
            for side in ("context", "query")
        ]
        accuracy = interval(estimate([cell["accuracy"] for cell in cells]))
        about = (row[0], str(row[1]), f"{row[3]:g}", str(len(cells)))
        rows.append([*about, accuracy, *errors, f"{cells[0]['parameters']:,}"])
    return _table(head, rows)
