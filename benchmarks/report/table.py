"""Groups of cells -> Markdown."""

from collections.abc import Sequence

from ..runner.cell import Record
from .intervals import Estimate
from .summary import CONTROL, Group, against_control, groups, look_up, usual_choices


JOINT = ("joint", "joint_still")
_HEAD = (
    "method",
    "seeds",
    "accuracy [95%]",
    f"difference to the control (`{CONTROL}`) [95%]",
    "labels / pseudo-labels / pairs / unpaired",
    "trainable parameters",
    "CPU seconds: training + encoding",
    "TFLOP with / without cached features",
    "peak memory, MiB",
    "latency, ms, batch 1 / 32",
    "share of latency outside the encoders, batch 32",
    "questions/s with ten questions an image",
    "reconstruction error, context / query",
)


def markdown(results: Sequence[Record]) -> str:
    """Tables of all cells: one for each label fraction, ratios to joint training, what did not apply, and settings."""
    if not results:
        return "No cells have been run.\n"
    everything = groups(results)
    parts = [_settings(results)]
    for fraction in sorted({group.label_fraction for group in everything}, reverse=True):
        here = [group for group in everything if group.label_fraction == fraction]
        parts.append(
            f"### {100 * fraction:.3g}% of the images labelled\n\n"
            + _table(_HEAD, [_row(g, everything) for g in here])
        )
        parts += [_against(joint, here) for joint in here if joint.method in JOINT]
    refused = sorted({(r["settings"]["method"], r["refused"]) for r in results if "refused" in r})
    if refused:
        parts.append("### Not applicable\n\n" + "\n".join(f"- `{method}`: {reason}." for method, reason in refused))
    return "\n\n".join(parts) + "\n"


def _settings(results: Sequence[Record]) -> str:
    usual = usual_choices(results)
    machines = sorted({", ".join(f"{k} {v}" for k, v in result["machine"].items()) for result in results})
    tested = sorted({result["test_questions"] for result in results if "test_questions" in result})
    lines = [
        f"{len(results)} cells; {' or '.join(f'{n:,}' for n in tested)} test questions. {'; '.join(machines)}.",
        "",
        "Accuracy is the mean over seeds with its 95% t interval; the difference is taken seed by seed. CPU seconds",
        "are of training and, after the plus, of encoding each distinct input once; memory is of the cell's process.",
        "Pseudo-labels are answers that a model gave to unlabelled questions. Reconstruction error is that of the",
        "adapters' inverses: 0 is exact, 1 the mean's; - without one, or not measured.",
        "",
        "<details><summary>Settings shared by most cells</summary>",
        "",
        ", ".join(f"{name}={value}" for name, value in sorted(usual.items())),
        "",
        "</details>",
    ]
    return "\n".join(lines)


def _row(group: Group, everything: Sequence[Group]) -> list[str]:
    def number(*path: str, form: str | None = None, scale: float = 1.0) -> str:
        found = group.mean(*path)
        if found is None:
            return "-"
        value = found.mean * scale
        return (form or ("{:,.0f}" if abs(value) >= 1000 else "{:.3g}")).format(value)

    data = [number("data", name, form="{:,.0f}") for name in ("labels", "guessed", "pairs", "unpaired_contexts")]
    of_labelled = any(look_up(cell, "data", "statements_of_labelled_images") for cell in group.cells)
    of_paired = any(look_up(cell, "data", "guessed_of_paired_images") for cell in group.cells)
    difference = against_control(group, everything)
    return [
        group.name,
        str(len(group.cells)),
        interval(group.mean("accuracy")),
        interval(difference, sign=True),
        " / ".join(data)
        + (
            " (statements of labelled images)"
            if of_labelled
            else " (pseudo-labels on paired images)"
            if of_paired
            else ""
        ),
        number("compute", "trainable", form="{:,.0f}"),
        f"{number('compute', 'cpu_seconds')} + {number('compute', 'feature_cpu_seconds')}",
        f"{number('compute', 'flops', scale=1e-12)} / {number('compute', 'flops_uncached', scale=1e-12)}",
        number("compute", "peak_memory_mib", form="{:,.0f}"),
        f"{number('inference', 'batch_1', 'whole_ms')} / {number('inference', 'batch_32', 'whole_ms')}",
        number("inference", "batch_32", "rest_share", form="{:.1%}"),
        number("inference", "questions_per_second_of_ten", "once", form="{:,.0f}"),
        " / ".join(number("reconstruction_error", side) for side in ("context", "query")),
    ]


def interval(found: Estimate | None, sign: bool = False) -> str:
    """A mean and its interval, four places.

    Example:
        >>> interval(Estimate(0.5, None, None, None, 1)), interval(Estimate(0.01, 0.001, 0.006, 0.014, 3), sign=True)
        ('0.5000', '+0.0100 [+0.0060, +0.0140]')
    """
    if found is None:
        return "-"

    def text(value: float) -> str:
        return f"{round(value, 4) + 0.0:{'+' if sign else ''}.4f}"  # + 0.0: no minus before a zero

    mean = text(found.mean)
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{text(found.low)}, {text(found.high)}]"


def _against(joint: Group, here: Sequence[Group]) -> str:
    """Ratios to one way of joint training, over the seeds that both have."""
    rows = []

    def total(cell: Record) -> float | None:
        parts = [look_up(cell, "compute", name) for name in ("cpu_seconds", "feature_cpu_seconds")]
        return None if None in parts else sum(parts)

    def peak(cell: Record) -> float | None:
        found = [look_up(cell, "compute", f"{kind}peak_memory_mib") for kind in ("", "feature_")]
        return max((value for value in found if value is not None), default=None)

    def above(cell: Record) -> float | None:
        pairs = [
            [look_up(cell, "compute", f"{kind}{end}_memory_mib") for end in ("peak", "start")]
            for kind in ("", "feature_")
        ]
        return max((most - least for most, least in pairs if None not in (most, least)), default=None)

    def flops(cell: Record) -> float | None:
        return look_up(cell, "compute", "flops")

    reads = [lambda cell: look_up(cell, "accuracy"), total, flops, peak, above]
    for group in here:
        if group.method in JOINT or not set(group.values(total)) & set(joint.values(total)):
            continue
        cells = [group.name]
        for read in reads:
            ours, theirs = group.values(read), joint.values(read)
            shared = ours.keys() & theirs.keys()
            below = sum(theirs[seed] for seed in shared)
            cells.append(f"{sum(ours[seed] for seed in shared) / below:.2%}" if below else "-")
        rows.append(cells)
    head = (
        f"relative to `{joint.name}`",
        "accuracy",
        "CPU seconds, encoding included",
        "FLOP",
        "peak memory",
        "peak memory above imports and data",
    )
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown of the columns that some row fills."""
    filled = [i for i in range(len(head)) if any(set(row[i]) - set("- /") for row in rows)]
    head, rows = [head[i] for i in filled], [[row[i] for i in filled] for row in rows]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
