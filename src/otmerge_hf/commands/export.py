"""`otmerge export`: a saved merge in, a folder out that other libraries run."""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from ..export import export_onnx, export_sentence_transformers
from ._loading import load_merge


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "export",
        help="write a saved merge for onnxruntime or sentence-transformers",
        description="onnx: a graph for each side and one that answers from what both made, so that ten questions "
        "about an image read it once; onnx.json says what each takes and makes. sentence-transformers: the shared "
        "embeddings, for SentenceTransformer(folder). What is written is compared with the merge first.",
    )
    parser.add_argument("--model", required=True, help="folder of the merge, or its name on the Hub")
    parser.add_argument("--format", required=True, choices=("onnx", "sentence-transformers"), help="what is written")
    parser.add_argument("--output", required=True, type=Path, dest="directory", help="a new or an empty folder")
    parser.add_argument("--int8", action="store_true", help="onnx: the graphs with weights of 8 bits too, in int8/")
    return parser


def run(arguments: Namespace) -> int:
    """Load the merge and write it; see [`export_onnx`] and [`export_sentence_transformers`] for what they raise.

    Raises:
        ValueError: If --int8 is asked for another format.
    """
    if arguments.int8 and arguments.format != "onnx":
        raise ValueError(f"--int8 goes with --format onnx, not {arguments.format}")
    model, processor = load_merge(arguments.model)
    if arguments.format == "onnx":
        export_onnx(model, arguments.directory, processor, arguments.int8)
    else:
        export_sentence_transformers(model, arguments.directory, processor)
    print(arguments.directory)
    return 0
