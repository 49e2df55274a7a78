"""One table says what to take: the report, the choice, the command and the page agree with it."""

import re
from pathlib import Path

import pytest
import torch

import otmerge_hf.losses
from otmerge_hf.alignment import RECOMMENDATIONS, choose_fit, recommend
from otmerge_hf.alignment.choice import FIT_NAMES, NEED_UNPAIRED
from otmerge_hf.alignment.recommendations import LEAST_UNPAIRED
from otmerge_hf.losses import LossTerm


REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "losses.md"


def test_the_page_shows_the_table():
    lines = ["| pairs, at least | unpaired rows | fit (`--fit`) | loss terms after it | because | how we know |"]
    lines.append("|---|---|---|---|---|---|")
    for row in RECOMMENDATIONS:
        unpaired = f"{LEAST_UNPAIRED} a side or more" if row.unpaired else "any or none"
        loss = " + ".join(f"`{name}`" for name in row.loss) or "none"
        pairs = f"{row.least_pairs:,}" if row.least_pairs else "any"
        lines.append(f"| {pairs} | {unpaired} | `{row.fit}` | {loss} | {row.because} | {row.evidence} |")
    table = "\n".join(lines)
    assert table in PAGE.read_text(), f"paste into docs/losses.md:\n{table}"


@pytest.mark.parametrize("row", RECOMMENDATIONS, ids=lambda row: f"{row.least_pairs}-{row.fit}")
def test_recommends_what_exists(row):
    terms = {value.name for value in vars(otmerge_hf.losses).values() if _is_term(value)}
    assert row.fit in FIT_NAMES
    assert set(row.loss) <= terms
    assert row.unpaired or row.fit not in NEED_UNPAIRED


@pytest.mark.parametrize("row", RECOMMENDATIONS, ids=lambda row: f"{row.least_pairs}-{row.fit}")
def test_evidence_that_names_a_file_names_one_that_exists(row):
    files = re.findall(r"[\w./-]+/[\w./-]+\.\w+", row.evidence)
    assert all((REPOSITORY / file).is_file() for file in files), row.evidence
    assert files or "not measured here" in row.evidence


def _is_term(value):
    return isinstance(value, type) and issubclass(value, LossTerm) and value is not LossTerm


@pytest.mark.parametrize("row", RECOMMENDATIONS, ids=lambda row: f"{row.least_pairs}-{row.fit}")
def test_every_row_is_the_answer_to_its_own_question(row):
    assert recommend(row.least_pairs, LEAST_UNPAIRED if row.unpaired else 0) == row


@pytest.mark.parametrize("row", RECOMMENDATIONS, ids=lambda row: f"{row.least_pairs}-{row.fit}")
def test_auto_tries_what_is_recommended(row):
    generator = torch.Generator().manual_seed(0)
    pairs = max(min(row.least_pairs, 60), 10)  # rows for more pairs name closed forms, always tried
    rows = pairs + (LEAST_UNPAIRED if row.unpaired else 0)
    x = torch.randn(rows, 6, generator=generator)
    index = torch.arange(pairs)[:, None].expand(-1, 2)
    held_out = torch.randn(20, 6, generator=generator)
    tried = {
        candidate.fit.split("(")[0].lower()
        for candidate in choose_fit((x, x.flip(1), index), (held_out, held_out.flip(1), None)).candidates
    }
    assert row.fit == "auto" or row.fit.replace("_", "") in tried


@pytest.mark.parametrize(
    ("pairs", "unpaired", "fit"),
    [
        (5, 0, "auto"),
        (5, 500, "wasserstein_procrustes"),
        (100, 0, "auto"),
        (100, LEAST_UNPAIRED - 1, "auto"),
        (100, 700, "sinkhorn_procrustes"),
        (2_000, 0, "cca"),
        (2_000, 5_000, "cca"),
        (1_000_000, 0, "cca"),
    ],
)
def test_fit_by_what_is_at_hand(pairs, unpaired, fit):
    assert recommend(pairs, unpaired).fit == fit


def test_the_report_speaks_of_fits_alone():
    for row in RECOMMENDATIONS:
        assert str(row).startswith(f"Recommended fit: {row.fit}.")
        assert "loss" not in str(row).lower()
        assert not any(name in str(row) for name in row.loss), "otmerge align trains nothing"


def test_what_brought_nothing_is_not_recommended():
    """Contrastive with sinkhorn or structure gave nothing on photographs, so a fit of few pairs stands alone."""
    assert recommend(100).loss == recommend(100, 700).loss == ()
    assert all("sinkhorn" not in row.loss and "structure" not in row.loss for row in RECOMMENDATIONS)
    assert all("not measured here" in row.evidence for row in RECOMMENDATIONS if "klot" in row.loss)
