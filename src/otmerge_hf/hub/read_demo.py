"""`results.json` of `examples/merge_easy_vqa.py` (`make demo`) -> facts of its card."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .facts import CardFacts, Metric, Table
from .numbers import counted, score, seconds
from .read_answers import MERGED
from .run_facts import measured_lines


COMMAND = "python examples/merge_easy_vqa.py"


def is_demo(results: Mapping[str, Any]) -> bool:
    """Whether the demonstration wrote them."""
    return {"rows", "test_questions", "feature_seconds"} <= results.keys()


def read_demo(facts: CardFacts, results: Mapping[str, Any]) -> CardFacts:
    """Add what the demonstration found to what the configuration tells."""
    rows, settings = results["rows"], results.get("settings", {})
    lines = [
        (name, score(row["accuracy"]), f"{row['trainable']:,}", seconds(row["seconds"])) for name, row in rows.items()
    ]
    head = ("", "accuracy", "trainable parameters", "training")
    questions = counted(results["test_questions"], "test question")
    trained_on = results.get("counts", {})
    data = f"easy-VQA (package `easy-vqa`), questions about images of one coloured shape: {questions}; "
    data += ", ".join(f"{name} {count:,}" for name, count in trained_on.items()) or "counts of training not recorded"
    asked = ", ".join(f"{name} {value}" for name, value in settings.items() if name not in ("seed", "command"))
    reused = ", kept from an earlier run" if results["features_reused"] else ""
    return replace(
        facts,
        data=(f"{data}.",),
        data_name="easy-vqa",
        stages=(
            "Both encoders stayed as they were; each distinct input went through them once.",
            "Alignment: the adapters learnt on image-statement pairs, by the terms `paired`, `sinkhorn`, `variance`.",
            "Answers: adapters, fuser and answer head learnt on the questions.",
            *([f"Settings: {asked}."] if asked else []),
        ),
        tables=(Table(f"On {questions}", head, tuple(lines)),),
        metrics=(Metric("accuracy", "accuracy", rows[MERGED]["accuracy"]),),
        measured=(
            *measured_lines({"command": COMMAND, "seed": 0} | settings),
            "`most frequent answer` gives each wording its most frequent training answer; `concatenation` is the "
            "control without alignment and without attention: mean features of both encoders, side by side.",
        ),
        compute=(
            f"Time as measured: encoding {seconds(results['feature_seconds'])}{reused}, training "
            f"{seconds(rows[MERGED]['seconds'])}, the whole command, controls included, "
            f"{seconds(results['total_seconds'])}.",
            f"{counted(rows[MERGED]['trainable'], 'trainable parameter')}.",
        ),
    )
