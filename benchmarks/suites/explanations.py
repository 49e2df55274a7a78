"""The suite `explanations`: does the heat of a picture lie on the shape that the answer is about?

    python examples/merge_easy_vqa.py --output_dir runs/easy-vqa     # trains the merge that is asked
    python -m benchmarks run explanations --model runs/easy-vqa      # half an hour on one busy core

Share inside: heat, upsampled bilinearly to the image and summing to 1, on the shape's pixels grown by two. Hit: the
hottest pixel is one of the shape's own. Both over right answers alone. Occlusion cannot heat an even background; how
much that alone explains is what the control shows, which looks at no model. So each explanation is asked about images
with two shapes as well, where it must follow the question: the heat on the asked-about shape over that on both.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite


BAR = 0.6
MODEL = "OTMERGE_EXPLAINED_MODEL"  # tells a cell's process where the merge is; another one needs `--again`
KINDS = {
    "attention": "attention of the fuser",
    "plan": "transport plan, above an even share",
    "late_interaction": "cosine with the question",
    "statement": "cosine with the answer's statement",
    "token_occlusion": "occlusion of a context token and its neighbours",
    "occlusion_coarse": "**occlusion of pixels, 8 x 8 cells, squares of 2** (the gallery's)",
    "control": "control: distance of each pixel from the median colour, no model",
}


class Explanations(Suite):
    """A cell is an explanation."""

    name = "explanations"
    model = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", type=Path, default=Path("runs/easy-vqa"), help="a merge trained on easy-VQA")
        parser.add_argument("--quick", action="store_true", help="50 questions and 10 images with two shapes")

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.quick)

    def cells(self, arguments: Namespace) -> list[Cell]:
        self.model = str(arguments.model.resolve())
        sizes = {"questions": 50, "two_shapes": 10} if arguments.quick else {"questions": 500, "two_shapes": 100}
        return [Cell(self.name, {"explanation": kind} | sizes) for kind in KINDS]

    def label(self, cell: Cell) -> str:
        return str(cell.choices["explanation"])

    def environment(self, cell: Cell) -> dict[str, str]:
        return {MODEL: self.model}

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import silence_transformers
        from .explanations_measure import measure

        silence_transformers()
        choices = cell.choices
        found = measure(Path(os.environ[MODEL]), choices["explanation"], choices["questions"], choices["two_shapes"])
        return {"machine": machine()} | found

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        return [write_table(folder, _markdown(records), "Heat inside the shape")]


def _markdown(records: Sequence[Record]) -> str:
    records = sorted(records, key=lambda record: list(KINDS).index(record["settings"]["explanation"]))
    machines = sorted({", ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records})
    lines = [
        "Test questions of easy-VQA, those with right answers counted; and questions about one of two shapes, those "
        "answered rightly and those answered for the other shape. Other work shared the machine. "
        f"{'; '.join(machines)}.",
        "",
        "Share: heat on the shape's pixels grown by 2. Hit: the hottest pixel is the shape's. Asked: of the heat on "
        "two shapes, that on the asked-about one, 0.5 by chance; where the answer is the other's, less is truer.",
        "",
        "| explanation | questions, right | share | shape or color | yes or no | hit | shape or color | yes or no "
        "| asked, right answer "
        "| asked, the other's answer | two shapes, right, the other's | ms a question |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        parts, pair = record["one_shape"], record["two_shapes"]
        numbers = [parts[part][name] for name in ("share", "hit") for part in ("all", "shape or color", "yes or no")]
        numbers += [pair["right"]["asked"], pair["mistaken"]["asked"]]
        cells = " | ".join("-" if number is None else f"{number:.3f}" for number in numbers)
        asked = f"{record['settings']['questions']}, {parts['all']['count']}"
        both = f"{record['settings']['two_shapes']}, {pair['right']['count']}, {pair['mistaken']['count']}"
        kind = KINDS[record["settings"]["explanation"]]
        lines.append(f"| {kind} | {asked} | {cells} | {both} | {record['milliseconds']:.0f} |")
    most = max(record["settings"]["questions"] for record in records)
    whole = [record for record in records if record["settings"]["questions"] == most]
    share = max(r["one_shape"]["all"]["share"] for r in whole if r["settings"]["explanation"] != "control")
    verdict = "met" if share >= BAR else "missed"
    lines += ["", f"Bar: share of at least {BAR} by an explanation on {most} questions: {verdict}, {share:.3f}."]
    return "\n".join(lines) + "\n"


SUITE = Explanations()
