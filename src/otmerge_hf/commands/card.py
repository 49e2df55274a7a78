"""`otmerge card`: a saved merge in, its model card out, from its configuration and results."""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..hub import write_card


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "card",
        help="write the model card of a saved merge",
        description="Write README.md of a saved merge anew, from its configuration and results.json: metadata for the "
        "Hub, encoders, data, stages, every score with its controls, and the pictures that otmerge report left in "
        "the folder. A README that somebody else wrote is refused.",
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the merge")
    parser.add_argument("--output", type=Path, help="file to write (default: README.md in the folder)")
    parser.add_argument("--name", help="of the repository on the Hub, owner/name (default: the folder's name)")
    return parser


def run(arguments: Namespace) -> int:
    """Write the card; see [`write_card`] for what it raises.

    Raises:
        ValueError: If there is no such folder, its README is not ours and no other file is named, or `--name` cannot
            be a repository's.
    """
    if arguments.name is not None:
        try:
            validate_repo_id(arguments.name)
        except HFValidationError as error:
            raise ValueError(f"--name {arguments.name!r} is no name of a repository, owner/name: {error}") from error
    if not (arguments.model / "config.json").is_file():
        raise ValueError(f"--model {str(arguments.model)!r} is no folder of a saved merge: it has no config.json")
    written = write_card(arguments.model, arguments.output, arguments.name)
    if written is None:
        raise ValueError(f"{arguments.model}/README.md was not written by otmerge_hf; name another file with --output")
    print(written)
    return 0
