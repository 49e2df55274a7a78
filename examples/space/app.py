"""A page to try a merge on: an image and a question in; answers, the patches of each word, and the nearest texts out.

    python examples/space/app.py --model runs/easy-vqa     # or the environment variable OTMERGE_MODEL

Ready as a Hugging Face Space: see README.md beside this file.
"""

import argparse
import html
import io
import os
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import pipeline

import otmerge_hf  # noqa: F401 -- registers the model, its processor and the pipeline
from otmerge_hf.analysis import NoPatchesError, word_heat
from otmerge_hf.analysis.figures import draw_words
from otmerge_hf.analysis.report_words import words_alt, words_table
from otmerge_hf.data import NoStatement, load_texts, open_upload, statement
from otmerge_hf.metrics import nearest_neighbours
from otmerge_hf.model.texts import check_texts


try:
    import gradio as gr
except ModuleNotFoundError as error:
    sys.exit(
        f'error: {error.name} is not installed: pip install "otmerge-hf[demo,space]", in an environment of its own'
    )


HERE = Path(__file__).parent
EXAMPLE = str(HERE / "example.png"), "what color is the shape?"
MOST_BYTES, MOST_PIXELS, LONGEST_QUESTION = 10_000_000, 20e6, 300
SHOWN = 5  # answers, and nearest texts
COMPARED = 20  # answers whose statements are compared with the image
STYLE = """
.found { width: 100%; border: 0 !important; border-collapse: collapse; }
.found caption { text-align: left; padding-bottom: 0.4em; }
.found :is(th, td) { border: 0 !important; padding: 0.35em 0.8em 0.35em 0 !important; }
.found tr { border: 0 !important; border-top: 1px solid #8886 !important; }
.found td { font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
.message { border-left: 4px solid #b00020; padding: 0.5em 0.8em; }
:focus-visible { outline: 3px solid #0b4f9e !important; outline-offset: 2px; }
"""


class Merge:
    """`merge.ask(path, question)`: what the page shows."""

    def __init__(self, name: str, captions: str | None = None) -> None:
        try:
            self.pipe = pipeline("otmerge-vqa", model=name, device="cpu")
        except (OSError, ValueError) as error:
            raise ValueError(f"model {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
        if self.pipe.looked_at != "image":
            raise ValueError(f"model {name!r} looks at {self.pipe.row.name}s; expected one that looks at images")
        self.captions = load_texts(captions) if captions else []
        self.embedded = self.embed(self.captions)  # (N, D), once

    def ask(self, path: str | None, question: str) -> tuple:
        """Message, answers, picture of words, their table, nearest texts; with a message the rest is empty."""
        try:
            if not path:
                raise ValueError("Choose an image first.")
            if Path(path).stat().st_size > MOST_BYTES:
                raise ValueError(f"The image has more than {MOST_BYTES / 1e6:.0f} MB.")
            if len(question) > LONGEST_QUESTION:
                raise ValueError(f"The question has {len(question)} characters; expected at most {LONGEST_QUESTION}.")
            if not question.strip():
                raise ValueError("Type a question first.")
            check_texts("question", question)
            image = open_upload(Path(path).read_bytes(), MOST_PIXELS)
        except (ValueError, OSError) as error:
            return _message(str(error).replace("`image`", "The image")), None, gr.Image(None), "", ""
        likely = self.pipe(image, question, top_k=COMPARED)
        answers = {one["answer"]: one["score"] for one in likely[:SHOWN]}
        nearest = self.nearest(image, question, [one["answer"] for one in likely])
        return "", answers, *self.words(image, question), nearest

    def words(self, image: Image.Image, question: str) -> tuple:
        """The image under the heat of each word, and the same as a table."""
        try:
            found = word_heat(self.pipe.model, self.pipe.processor, image, question)
        except NoPatchesError as error:
            return gr.Image(None), f"<p>{html.escape(str(error))}</p>"
        table = words_table(found, "Where each word's mass comes from")
        image = image.copy()
        image.thumbnail((640, 640))  # it is drawn once a word
        drawn = Image.open(io.BytesIO(draw_words(image, found.words, found.heat)))
        return gr.Image(drawn, alt_text=words_alt(found, table)), _table(table.title, table.head, table.rows)

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> torch.Tensor:
        """Shared embeddings (N, D) of N texts."""
        parts = [torch.empty(0, self.pipe.model.config.shared_dim)]
        for start in range(0, len(texts), 64):
            inputs = self.pipe.processor(text=texts[start : start + 64], return_tensors="pt")
            parts.append(self.pipe.model.otmerge.get_query_embeds(**inputs))
        return torch.cat(parts)

    @torch.inference_mode()
    def nearest(self, image: Image.Image, question: str, answers: list[str]) -> str:
        """Texts that the alignment finds next to the image: likely answers' statements, and captions of your own."""
        statements = []
        for answer in answers:
            try:
                statements.append(statement(question, answer))
            except NoStatement:
                continue  # the answer does not fit the question, or the question has no known form
        texts, embedded = [*self.captions, *statements], torch.cat([self.embedded, self.embed(statements)])
        if not texts:
            return "<p>This question makes no statements that could be compared with the image.</p>"
        pixels = self.pipe.processor(images=[image], return_tensors="pt")
        images = self.pipe.model.otmerge.get_context_embeds(**pixels)
        scores, places = nearest_neighbours(images, embedded, min(SHOWN, len(texts)))
        rows = [(texts[j], f"{x:.3f}") for j, x in zip(places[0].tolist(), scores[0].tolist(), strict=True)]
        return _table("Nearest to the image in the shared space", ("text", "cosine"), rows)


def _uploaded(sent: Any, folder: Path) -> str | None:
    """Path of a file that was uploaded; None for any other: gradio looks only at those that say they are files."""
    path = Path(sent.path).resolve() if sent and sent.path else None
    return str(path) if path and path.is_relative_to(folder.resolve()) else None


def _message(text: str) -> str:
    return f'<p class="message" role="alert">{html.escape(text)}</p>'


def _table(caption: str, head: Any, rows: Any) -> str:
    def line(cells: Any, tag: str, scope: str) -> str:
        return f"<tr>{''.join(f'<{tag}{scope}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line(row, "td", "") for row in rows)
    top = line(head, "th", ' scope="col"')
    return f'<table class="found"><caption>{html.escape(caption)}</caption>{top}{body}</table>'


def build(merge: Merge) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="Ask a merge", analytics_enabled=False) as page:
        gr.Markdown(
            "# Ask a merge\nTwo frozen encoders, one for images and one for texts, made into one model by optimal "
            "transport. Give it an image and a question; it chooses among the answers that it was taught."
        )
        with gr.Row():
            with gr.Column():
                image = gr.Image(label="Image", type="filepath", sources=["upload"], height=240, buttons=[])
                # as it was sent: gradio's own reading would end in a traceback where it is no image
                image.preprocess = lambda sent: _uploaded(sent, Path(image.GRADIO_CACHE))
                question = gr.Textbox(label="Question", placeholder=EXAMPLE[1], max_length=LONGEST_QUESTION)
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary")
                    example = gr.Button("Fill in an example")
                message = gr.HTML(label="Message")
            with gr.Column():
                answers = gr.Label(label="Answers, with their probabilities", num_top_classes=SHOWN)
        with gr.Row():
            with gr.Column():
                gr.Markdown("## Which patches each word goes to")
                heat = gr.Image(
                    label="Heat of each word", show_label=False, interactive=False, format="png", buttons=[]
                )
                words = gr.HTML(label="Words")
            with gr.Column():
                gr.Markdown("## What the alignment finds")
                nearest = gr.HTML(label="Nearest texts")
        gr.on(
            [ask.click, question.submit], merge.ask, [image, question], [message, answers, heat, words, nearest],
            api_name="ask",
        )  # fmt: skip
        example.click(lambda: EXAMPLE, None, [image, question], api_visibility="private")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=os.environ.get("OTMERGE_MODEL"), help="folder or Hub name of the merge")
    parser.add_argument("--captions", default=os.environ.get("OTMERGE_CAPTIONS"), help="texts to search, one a line")
    parser.add_argument("--port", type=int, help="port to listen on")
    arguments = parser.parse_args()
    if not arguments.model:
        sys.exit("error: no merge; set OTMERGE_MODEL, or give --model (folder or Hub name)")
    try:
        merge = Merge(arguments.model, arguments.captions)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none are fetched
    theme = gr.themes.Default(primary_hue="blue", **fonts)
    theme.set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800")
    options = {"css": STYLE, "theme": theme, "max_file_size": MOST_BYTES, "footer_links": [], "ssr_mode": False}
    build(merge).launch(server_port=arguments.port, allowed_paths=[EXAMPLE[0]], **options)


if __name__ == "__main__":
    main()
