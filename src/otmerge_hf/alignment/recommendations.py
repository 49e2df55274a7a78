"""One table: which fit and which loss terms to take, by the pairs and the unpaired rows at hand, and how we know.

[`preflight`] reads it, [`choose_fit`] tries what it names, and `docs/losses.md` shows it (a test compares them).
"""

from dataclasses import dataclass
from typing import Literal


# Fewer unpaired rows than this on a side say little about the shape of its cloud.
LEAST_UNPAIRED = 30

FitName = Literal[
    "auto", "procrustes", "cca", "ridge", "sinkhorn_procrustes", "wasserstein_procrustes", "gaussian_monge"
]


@dataclass(frozen=True)
class Recommendation:
    """One row of the table.

    Attributes:
        least_pairs: Fewest pairs that it is for.
        unpaired: Whether it needs unpaired rows, at least `LEAST_UNPAIRED` on each side.
        fit: The fit, as `choose_fit(kind=...)` and `otmerge align --fit` name it.
        loss: Names of the loss terms that are worth a training after the fit; none if that brought nothing.
        because: Why, in one sentence.
        evidence: Where it comes from: a measurement of ours, or a paper that we have not checked.
    """

    least_pairs: int
    unpaired: bool
    fit: FitName
    loss: tuple[str, ...]
    because: str
    evidence: str

    def __str__(self) -> str:
        # The fit alone: whoever reads the report runs a fit and trains nothing.
        return f"Recommended fit: {self.fit}. {self.because} ({self.evidence})"


_RESULTS = "benchmarks/results/alignment/table.md"
_MANY = f"measured: the fit, 500 to 2,000 pairs of photographs; the training, 1,192 emoji, {_RESULTS}"
_FEW = f"measured: 50 to 200 pairs of emoji and of photographs, {_RESULTS}"
_UNPAIRED = (
    "measured: photographs, 1.9 times the best closed form at 50 pairs, 1.4 at 100, within its error at 200, no gain "
    f"at 500; emoji, a gain within its error at 50 to 200, {_RESULTS}"
)
_FIFTY = f"measured at no fewer than 50 pairs: above closed forms there, on emoji and on photographs, {_RESULTS}"
_PAPER = "from a paper, not measured here: arXiv 2602.23353"
_FIT_AND_PAPER = f"fit measured: 1,000 and 2,000 pairs of photographs, {_RESULTS}; training {_PAPER}"
_NOTHING = "Nothing that used unpaired rows was better with so many pairs."
_WHITEN = "Enough pairs to whiten; only a training can use the unpaired rows."
_REFINE = "The pairs hold the frame, and the unpaired rows refine it."
_SHAPE = "With so few pairs the shape of the clouds must help."

# Most pairs first; of rows that fit, the first one counts.
RECOMMENDATIONS = (
    Recommendation(100_000, False, "cca", ("contrastive",), _NOTHING, _PAPER),
    Recommendation(1_000, True, "cca", ("contrastive", "klot"), _WHITEN, _FIT_AND_PAPER),
    Recommendation(300, False, "cca", ("contrastive",), "Enough pairs to whiten; a training adds a little.", _MANY),
    Recommendation(20, True, "sinkhorn_procrustes", (), _REFINE, _UNPAIRED),
    Recommendation(0, True, "wasserstein_procrustes", (), _SHAPE, _FIFTY),
    Recommendation(0, False, "auto", (), "Ridge, Procrustes and CCA take turns: let validation choose.", _FEW),
)


def recommend(pairs: int, unpaired: int = 0) -> Recommendation:
    """Look up what to take for so many pairs, and unpaired rows of the side that has fewer.

    Example:
        >>> recommend(50, unpaired=700).fit
        'sinkhorn_procrustes'
    """
    return next(
        row for row in RECOMMENDATIONS if pairs >= row.least_pairs and (unpaired >= LEAST_UNPAIRED or not row.unpaired)
    )
