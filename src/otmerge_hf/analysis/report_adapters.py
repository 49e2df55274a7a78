"""The two adapters and features -> what they keep, as parts of a report's page."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..features import FeatureStore
from ..features.embedding import AFFINE_ADAPTERS
from ..hub.facts import Table
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeModel
from .figures import draw_spectra
from .jacobian import JacobianSpectrum, jacobian_spectrum
from .page import Picture
from .reconstruction import reconstruction_errors


MOST_TOKENS = 256
_ROWS = 64  # of a store, whose tokens are drawn from
_NOTHING = "there are no features to look at; give `pairs` or `questions`."
_HEAD = (
    "adapter", "from", "to", "error of the inverse", "error of the decoder", "condition number", "rank",
    "effective dimension",
)  # fmt: skip


def about_adapters(base: OTMergeModel, stores: Mapping[str, FeatureStore], missing: list[str]) -> tuple[Any, ...]:
    """A row an adapter, and the spectra of both; what cannot be had is told to `missing`."""
    rows, flat, spectra = [], list[str](), dict[str, JacobianSpectrum]()
    affine = base.config.adapter_type in AFFINE_ADAPTERS
    if not stores:
        missing.append(f"Reconstruction: {_NOTHING}")
    if not (stores or affine):
        missing.append(
            f"Singular values: those of `{base.config.adapter_type}` differ from point to point; {_NOTHING}"
        )
    for side in SIDES:
        adapter = copy.deepcopy(getattr(base, f"{side}_adapter")).float().cpu()  # factorisations know no bfloat16
        cells, tokens = ["not shown"] * 5, torch.zeros(1, adapter.in_dim)  # any point will do where the map is affine
        if stores:
            tokens = sample_tokens(base, side, stores[side])
            errors = reconstruction_errors(adapter, tokens)
            cells[:2] = ("none" if error is None else f"{error:.3g}" for error in errors)
            if errors == (None, None):
                missing.append(f"Reconstruction of the {side} side: its adapter has no inverse and no decoder.")
        if stores or affine:
            found = spectra[side] = jacobian_spectrum(adapter, tokens)
            condition, dimension = found.condition.median().item(), found.effective_dimension.median().item()
            rank, full = int(found.rank().median()), found.singular_values.shape[1]
            cells[2:] = f"{condition:.4g}", f"{rank:,} of {full:,}", f"{dimension:.1f}"
            if rank < full and adapter.invertibility in ("exact", "left-inverse"):
                flat.append(f"The {side} adapter flattens {full - rank:,} directions: no inverse gives them back.")
        rows.append((side, f"{adapter.in_dim:,}", f"{adapter.out_dim:,}", *cells))
    title = f"Adapters, `{base.config.adapter_type}`: medians over up to {MOST_TOKENS} tokens, in standardised units"
    return (
        "Each adapter maps one encoder's tokens into the shared space. Its Jacobian says how it stretches the space "
        "around a token: equal singular values keep every direction alike, small ones flatten theirs. An error of 0 "
        "gives every feature back; one of 1 is as good as always answering the mean.",
        Table(title, _HEAD, tuple(rows)),
        *flat,
        *([_spectra(spectra)] if spectra else []),
    )


def _spectra(spectra: Mapping[str, JacobianSpectrum]) -> Picture:
    told = []
    for side, found in spectra.items():
        low, middle, high = found.quantiles((0.0, 0.5, 1.0)).tolist()
        told.append(f"{side}: from {high:.3g} down to {low:.3g}, half of them above {middle:.3g}")
    alt = f"Falling curves of the adapters' singular values. {'; '.join(told)}."
    caption = "Singular values of the adapters' Jacobians, median and the band of nine tokens in ten"
    return Picture("spectra.png", draw_spectra(spectra), alt, caption)


@torch.no_grad()
def sample_tokens(
    base: OTMergeModel, side: str, store: FeatureStore, count: int = MOST_TOKENS, rows: Tensor | None = None
) -> Tensor:
    """Up to `count` tokens (n, D_side) as one side's adapter receives them, in float32, of these or of spread rows."""
    if rows is None:
        rows = torch.linspace(0, len(store) - 1, min(len(store), _ROWS)).long()
    tokens, mask = store.batch(rows)
    tokens = tokens[mask.bool()].float()
    chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))[:count]
    standardizer: torch.nn.Module = copy.deepcopy(getattr(base, f"{side}_standardizer")).float().cpu()
    return standardizer(tokens[chosen])
