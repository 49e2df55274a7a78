"""The suite `vqa-accuracy`: `metrics.vqa_accuracy` against a plain loop, on 200,000 answers of people.

    python -m benchmarks run vqa-accuracy

Answers are made from a list of words: the few thousand of a real data set, frequent ones often, or every one another.
"""

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ..runner.cell import Cell, Place, Record, Suite


QUESTIONS, PEOPLE, ROUNDS = 20_000, 10, 3
#: Kind of answers -> how many distinct ones there are; None: as many as answers.
KINDS = {"3,000 distinct": 3_000, "all distinct": None}
_WORDS = ("yes", "two", "man", "red", "dog's", "t-shirt", "tennis racket", "dont", "the left", "2:30", "1,000", "a.m.")


class VQAAccuracySpeed(Suite):
    """A cell is a kind of answers and a number of questions."""

    name = "vqa-accuracy"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--questions", type=int, default=QUESTIONS)

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.questions != QUESTIONS)

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.questions < 1:
            raise ValueError(f"`questions` is {arguments.questions}; expected at least 1.")
        return [Cell(self.name, {"answers": kind, "questions": arguments.questions}) for kind in KINDS]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['questions']} questions, {cell.choices['answers']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from otmerge_hf.metrics import vqa_accuracy

        from ..runner.machine import machine, processor
        from .vqa_accuracy_loop import slow_score

        before = processor()
        predictions, references = make_answers(cell.choices["questions"], KINDS[cell.choices["answers"]])
        turns = []
        for turn in range(ROUNDS):
            start = time.process_time()
            ours = vqa_accuracy(predictions, references)["accuracy"]
            middle = time.process_time()
            loop = statistics.fmean(map(slow_score, predictions, references))
            turns.append({"ours": middle - start, "loop": time.process_time() - middle, "apart": abs(ours - loop)})
            place.report_progress((turn + 1) / ROUNDS)
        return {"machine": machine(**before), "turns": turns}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        lines = [
            f"Medians of {ROUNDS} rounds in which both take turns, CPU seconds. Ten people answer each question.",
            "",
            "| answers | questions | vqa_accuracy, s | plain loop, s | loop / vqa_accuracy | accuracies apart by |",
            "|---|---|---|---|---|---|",
        ]
        for record in records:
            settings, turns = record["settings"], record["turns"]
            ours, loop = (statistics.median(turn[name] for turn in turns) for name in ("ours", "loop"))
            ratio = statistics.median(turn["loop"] / turn["ours"] for turn in turns)
            apart = max(turn["apart"] for turn in turns)
            start = f"| {settings['answers']} | {settings['questions']:,} | {ours:.2f} | {loop:.1f} "
            lines.append(f"{start}| {ratio:.1f} | {apart:.0e} |")
        return [write_table(folder, "\n".join(lines) + "\n", "VQA accuracy and a plain loop")]


def make_answers(questions: int, distinct: int | None) -> tuple[list[str], list[list[str]]]:
    """Predictions, and people's answers; where answers repeat, the n-th most frequent occurs as often as 1 / n."""
    random, count = Random(0), 11 * questions

    def phrase(number: int) -> str:
        return " ".join(random.choices(_WORDS, k=random.randint(1, 3))) + f" {number}"

    if distinct is None:
        said = [phrase(number) for number in range(count)]
        return said[:questions], [said[at : at + PEOPLE] for at in range(questions, count, PEOPLE)]
    known = [phrase(number) for number in range(distinct)]
    weights = [1 / (number + 1) for number in range(distinct)]
    likely = random.choices(known, weights, k=questions)  # most people of a question agree
    references = [[one if random.random() < 0.6 else random.choice(known) for _ in range(PEOPLE)] for one in likely]
    return random.choices(likely, k=questions), references


SUITE = VQAAccuracySpeed()
