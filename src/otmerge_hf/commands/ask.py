"""`otmerge ask`: a saved merge, an image or a sound and a question (or a table) in, answers with scores out."""

import csv
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from transformers import pipeline
from transformers.utils import logging as transformers_logging

from ..model.texts import NO_TEXT
from ._loading import load_answering


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "ask", help="ask a saved merge a question about an image, or a whole table of them"
    )
    parser.add_argument("--model", required=True, help="folder or Hub name of the merge")
    parser.add_argument("--image", action="append", help="path or URL of the image; repeated: one row of several")
    parser.add_argument("--audio", help="path of a WAV file, in place of --image, for a merge that hears")
    parser.add_argument("--question", help="the question; '' where the merge classifies images alone")
    parser.add_argument("--top-k", type=int, default=3, help="answers to print (default %(default)s)")
    parser.add_argument("--csv", help="a table of images and questions to answer, in place of --image and --question")
    parser.add_argument(
        "--image-column",
        action="append",
        help="column of images of --csv (default: found by its name); repeated: several images a row",
    )
    parser.add_argument("--question-column", help="column of questions of --csv (default: found by its name)")
    parser.add_argument("--delimiter", help="what stands between the columns of --csv (default: a comma)")
    parser.add_argument("--output", type=Path, help="CSV file for the answers to --csv (default: print them)")
    return parser


def run(arguments: Namespace) -> int:
    """Print the best answers, one a line, with their probabilities; or one answer for each row of a table.

    Raises:
        ValueError: If the image cannot be opened, or the model does not answer questions.
        OSError: If the model is not found.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if arguments.csv:
        if arguments.image or arguments.audio or arguments.question:
            raise ValueError("--csv answers a table; leave out --image, --audio and --question")
        return _answer_table(arguments)
    if arguments.image and arguments.audio:
        raise ValueError("--image and --audio are given; expected one of them, which the merge looks at or hears")
    if not (arguments.image or arguments.audio) or arguments.question is None:
        raise ValueError("--image and --question are needed ('' where images alone are classified), or --csv")
    if arguments.output:
        raise ValueError("--output is for the answers to --csv; a single answer is printed")
    model, processor = load_answering(arguments.model)
    # The task's name is ours: transformers' overloads do not list it.
    pipe = pipeline("otmerge-vqa", model=model, processor=processor, device="cpu")  # type: ignore[call-overload]
    given = {"audio": arguments.audio}
    if arguments.image:
        given = {"image": arguments.image if len(arguments.image) > 1 else arguments.image[0]}
    row = {**given, "question": arguments.question or NO_TEXT}
    for answer in pipe(row, top_k=arguments.top_k):
        print(f"{answer['score']:.3f}  {answer['answer']}")
    return 0


def _answer_table(arguments: Namespace) -> int:
    from ..analysis import answer_questions  # reading tables needs `datasets`; one question does not
    from ..data import load_rows

    model, processor = load_answering(arguments.model)
    options = {name: getattr(arguments, name) for name in ("image_column", "question_column", "delimiter")}
    questions = load_rows(arguments.csv, **options)
    # before the work, not after
    output = arguments.output.open("w", newline="", encoding="utf-8") if arguments.output else sys.stdout
    answered = answer_questions(model, processor, questions)
    try:
        writer = csv.writer(output)
        writer.writerow(["row", "image", "question", "answer", "score"])
        for row, (said, score) in enumerate(answered):
            text = questions.texts[questions.text_rows[row]]
            name = "; ".join(str(image) if isinstance(image, Path) else "" for image in questions.images_of(row))
            writer.writerow([questions.where[row], name, text, "; ".join(said), f"{score:.4f}"])
    finally:
        if arguments.output:
            output.close()
    if arguments.output:
        print(f"{len(answered):,} answers: {arguments.output}")
    return 0
