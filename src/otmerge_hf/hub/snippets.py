"""Python for a card that loads a merge and uses it: it runs as it stands, where the model's folder is."""

_IMPORTS = """import otmerge_hf  # without the package: trust_remote_code=True where the model is loaded
{more}
"""
_PIPELINE = (
    _IMPORTS.format(more="from PIL import Image\nfrom transformers import pipeline")
    + """
pipe = pipeline("otmerge-vqa", model="{name}", device="cpu")
image = Image.new("RGB", (64, 64), "blue")  # or a path, or a URL
print(pipe(image=image, question="what color is the shape?", top_k=1))
"""
)
_CLASSES = _PIPELINE.replace("otmerge-vqa", "otmerge-classification").replace(
    'question="what color is the shape?"', 'text="a blue shape"'
)
_LOAD = """
name = "{name}"
model, processor = {auto}.from_pretrained(name), AutoProcessor.from_pretrained(name)
{inputs}
"""
_INPUTS = {
    "image": 'images = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]  # or paths\n'
    'inputs = processor(images=images, text=["a red shape", "something blue"], return_tensors="pt")',
    "audio": "rate = processor.feature_extractor.sampling_rate\n"
    'inputs = processor(audio=[[0.0] * rate], text=["a sound"], sampling_rate=rate, return_tensors="pt")',
    "text": 'inputs = processor(context_text=["a passage"], text=["a question"], return_tensors="pt")',
}
_ANSWER = "print(model.config.id2label[model(**inputs).logits[0].argmax().item()])\n"
_RETRIEVE = "print(model(**inputs).logits_per_text.softmax(-1))  # a row a text\n"


def snippet(name: str, kind: str, answers: bool, asks: bool = True) -> str:
    """Lines that load a merge and use it once.

    Args:
        name: Folder or Hub name.
        kind: Of the context: `image`, `audio` or `text`.
        answers: Whether it answers, or retrieves.
        asks: Whether it answers questions, or classifies images with statements.

    Example:
        >>> print(snippet("mine", "image", True).splitlines()[-1])
        print(pipe(image=image, question="what color is the shape?", top_k=1))
    """
    if answers and kind == "image":
        return (_PIPELINE if asks else _CLASSES).format(name=name)
    auto = "AutoModelForVisualQuestionAnswering" if answers else "AutoModel"
    more = f"from transformers import {', '.join(sorted([auto, 'AutoProcessor']))}"
    more = f"from PIL import Image\n{more}" if kind == "image" else more
    loaded = _LOAD.format(name=name, auto=auto, inputs=_INPUTS[kind])
    return _IMPORTS.format(more=more) + loaded + (_ANSWER if answers else _RETRIEVE)
