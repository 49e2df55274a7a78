"""`otmerge ask`: a saved merge, an image and a question in, answers with scores out."""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from transformers import pipeline
from transformers.utils import logging as transformers_logging


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser("ask", help="ask a saved merge a question about an image")
    parser.add_argument("--model", required=True, help="folder or Hub name of the merge")
    parser.add_argument("--image", required=True, help="path or URL of the image")
    parser.add_argument("--question", required=True, help="the question")
    parser.add_argument("--top-k", type=int, default=3, help="answers to print (default %(default)s)")
    return parser


def run(arguments: Namespace) -> int:
    """Print the best answers, one a line, with their probabilities.

    Raises:
        ValueError: If the image cannot be opened, or the model does not answer questions.
        OSError: If the model is not found.
    """
    transformers_logging.set_verbosity_error()
    if not Path(arguments.model).exists() and arguments.model.count("/") > 1:
        raise ValueError(f"--model {arguments.model!r} is no folder here, and no name on the Hub (owner/name)")
    # The task's name is ours: transformers' overloads do not list it.
    pipe = pipeline("otmerge-vqa", model=arguments.model, device="cpu")  # type: ignore[call-overload]
    for answer in pipe(image=arguments.image, question=arguments.question, top_k=arguments.top_k):
        print(f"{answer['score']:.3f}  {answer['answer']}")
    return 0
