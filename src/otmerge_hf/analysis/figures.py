"""Numbers of a report -> PNGs, by matplotlib; none needs its colours to be read."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..metrics.neighbours import normalise
from .jacobian import JacobianSpectrum


# Dark on white, and for the colour-blind; dashes, markers and labels tell them apart too.
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0b4f9e", "linestyle": "-", "marker": "o"},
    {"color": "#b34700", "linestyle": "--", "marker": "^"},
)
_WORD_COLUMNS = 3


def new_figure(width: float = 4.8, height: float = 3.4) -> Any:
    """An empty figure, in inches: small, so that its letters can be read on a telephone.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Drawing the report needs matplotlib; run: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def draw_spectra(spectra: Mapping[str, JacobianSpectrum]) -> bytes:
    """Singular values of each side by place: the median over the points, and a band that holds nine in ten."""
    figure = new_figure()
    axes = figure.subplots()
    for (side, spectrum), look in zip(spectra.items(), _LOOKS, strict=False):
        low, middle, high = spectrum.singular_values.double().quantile(
            torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64), dim=0
        )
        places = range(1, len(middle) + 1)
        axes.plot(places, middle.numpy(), label=side, markevery=max(1, len(middle) // 8), **look)
        axes.fill_between(places, low.numpy(), high.numpy(), color=look["color"], alpha=0.2)
    axes.set(yscale="log", xlabel="place", ylabel="singular value")
    axes.legend()
    return _png(figure)


def draw_gaps(gaps: Mapping[str, float], context: Tensor, query: Tensor, most: int = 300) -> bytes:
    """The gaps as bars, and below them both sides' shared embeddings on their two first principal axes."""
    figure = new_figure(height=5.6)
    bars, cloud = figure.subplots(2, height_ratios=(1, 2))
    shown = bars.barh(list(gaps), list(gaps.values()), color="#d0d0d0", edgecolor="black")
    bars.bar_label(shown, fmt="%.3f", padding=3)
    bars.invert_yaxis()
    bars.set(xlabel="modality gap", xlim=(0, 1.25 * max(*gaps.values(), 1e-6)))
    # a further coordinate of zeros, for shared spaces of a single one
    sides = [torch.nn.functional.pad(normalise(side[:most].double()), (0, 1)) for side in (context, query)]
    points = torch.cat(sides)
    axes = torch.linalg.svd(points - points.mean(0), full_matrices=False).Vh[:2]
    for name, side, look in zip(("context", "query"), sides, _LOOKS, strict=True):
        filled = look["color"] if name == "context" else "none"
        placed = (side - points.mean(0)) @ axes.T  # (n, 2)
        cloud.scatter(*placed.T.numpy(), 22, filled, marker=look["marker"], edgecolors=look["color"], label=name)
    cloud.set(xlabel="first principal axis", ylabel="second")
    cloud.legend()
    return _png(figure)


def draw_recalls(ks: Sequence[int], recalls: Mapping[str, Sequence[float]], chance: Sequence[float]) -> bytes:
    """Recall at each depth, a line a direction, and what guessing reaches."""
    figure = new_figure()
    axes = figure.subplots()
    for (direction, values), look in zip(recalls.items(), _LOOKS, strict=True):
        axes.plot(ks, values, label=direction, **look)
    axes.plot(ks, chance, label="guessing", color="black", linestyle=":")
    axes.set(xscale="log", xlabel="candidates looked at (k)", ylabel="recall@k", ylim=(0, 1.02))
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.legend()
    return _png(figure)


def draw_trade_off(own: Any, cut: Sequence[Any], curve: Sequence[Any]) -> bytes:
    """Recall against what comes back of each side's features: the merge as a star, itself cut, and a closed form.

    All are `TradeOff`s of [`report_trade_off`].
    """
    figure = new_figure(height=6.4)
    panels = figure.subplots(2, sharey=True)
    for axes, side, kind in zip(panels, ("context", "query"), ("image", "text"), strict=True):
        lines = {"CCA": curve, "this merge, cut": [*cut, own]}
        for (name, points), look, up in zip(lines.items(), _LOOKS, (-11, 5), strict=True):
            places = [(point.kept[side], point.recall) for point in points]
            axes.plot(*zip(*places, strict=True), label=name, markersize=5, **look)
            for point, place in zip(points, places, strict=True):
                axes.annotate(str(point.width), place, (2, up), textcoords="offset points", fontsize=8)
        star = {"color": _LOOKS[1]["color"], "markersize": 15, "markeredgecolor": "black"}
        axes.plot(own.kept[side], own.recall, "*", label=f"this merge, {own.width}", **star)
        axes.margins(0.1)
        axes.set(xlabel=f"share of the {kind} features' variance that comes back", ylabel="mean recall@1")
    panels[0].legend(fontsize=8)
    return _png(figure)


def draw_layers(cka: Tensor) -> bytes:
    """Similarity of every layer of the context encoder with every one of the query encoder; the largest is marked."""
    figure = new_figure(height=4.2)
    axes = figure.subplots()
    image = axes.imshow(cka.numpy(), cmap="cividis", aspect="auto", origin="lower")
    row, column = divmod(int(cka.nan_to_num(-1).argmax()), cka.shape[1])
    axes.plot(column, row, marker="X", markersize=12, markerfacecolor="white", markeredgecolor="black")
    axes.set(xlabel="layer of the query encoder", ylabel="layer of the context encoder")
    figure.colorbar(image, label="debiased CKA (cross: largest)")
    return _png(figure)


def draw_words(image: Any, words: Sequence[str], heat: Tensor) -> bytes:
    """An image, and again under the heat of each of W words, (W, rows, columns)."""
    rows = math.ceil((1 + len(words)) / _WORD_COLUMNS)
    figure = new_figure(height=1.75 * rows)
    grid = figure.subplots(rows, _WORD_COLUMNS, squeeze=False).flatten()
    for axes in grid:
        axes.axis("off")
    grid[0].imshow(image)
    for axes, word, cells in zip(grid[1:], words, heat, strict=False):
        axes.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
        extent = (0, image.width, image.height, 0)
        axes.imshow(cells.float().numpy(), cmap="inferno", alpha=0.65, extent=extent, interpolation="bilinear")
        axes.set_title(word, fontsize=11, parse_math=False)
    return _png(figure)


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()
