"""Ask a saved merge a question about an image.

python examples/ask.py --model runs/easy-vqa --image shape.png --question "what color is the shape?"
"""

import sys
from dataclasses import dataclass, field

from transformers import HfArgumentParser, pipeline

import otmerge_hf  # noqa: F401 -- registers the model, its processor and the pipeline


@dataclass
class Options:
    """What to ask, and whom."""

    model: str = field(metadata={"help": "Folder or Hub name of the merge."})
    image: str = field(metadata={"help": "Path or URL of the image."})
    question: str = field(metadata={"help": "The question."})
    top_k: int = field(default=3, metadata={"help": "How many answers to print."})


def main() -> None:
    options = HfArgumentParser(Options).parse_args_into_dataclasses()[0]
    try:
        pipe = pipeline("otmerge-vqa", model=options.model, device="cpu")
        answers = pipe(image=options.image, question=options.question, top_k=options.top_k)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for answer in answers:
        print(f"{answer['score']:.3f}  {answer['answer']}")


if __name__ == "__main__":
    main()
