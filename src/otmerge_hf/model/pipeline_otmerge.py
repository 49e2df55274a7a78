"""Question and image (or sound, or passage) in, the most likely answers out."""

import os

import torch
from PIL import Image
from transformers import AutoProcessor, Pipeline

from .modality import CONTEXTS, IMAGE, modality_of
from .texts import NO_TEXT


_LOOKED_AT = {IMAGE.processor_part: "image", "feature_extractor": "audio", "context_tokenizer": "context"}
_MANY = {"image": "images", "audio": "sounds", "context": "texts"}
_EXPECTED = {
    "image": "a PIL image, a path, a URL, base64 text or an array",
    "audio": "a WAV file's path or samples",
    "context": "a passage",
}


class OTMergeVQAPipeline(Pipeline):
    """Question answering about images, sounds or passages of text, with an [`OTMergeForQuestionAnswering`].

    Registered as `otmerge-vqa`, and as `visual-question-answering`, which transformers 5 no longer has itself.

    Example:
        >>> from transformers import BertConfig, BertTokenizer, ViTConfig, ViTImageProcessor, pipeline
        >>> import otmerge_hf
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(**small), BertConfig(**small)
        >>> config = otmerge_hf.OTMergeConfig.from_encoder_configs(*encoders, id2label={0: "red", 1: "blue"})
        >>> tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "what": 5})
        >>> processor = otmerge_hf.OTMergeProcessor(ViTImageProcessor(), tokenizer)
        >>> model = otmerge_hf.OTMergeForQuestionAnswering(config)
        >>> pipe = pipeline("otmerge-vqa", model=model, processor=processor, device="cpu")
        >>> answers = pipe(image=Image.new("RGB", (40, 40), "red"), question="what color ?", top_k=2)
        >>> sorted(answer["answer"] for answer in answers)  # a model that has learned puts the right one first
        ['blue', 'red']
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.processor is None:
            self.processor = AutoProcessor.from_pretrained(self.model.name_or_path)
        if getattr(self.processor, "context_part", None) not in {row.processor_part for row in CONTEXTS}:
            expected = "an OTMergeProcessor (or an OTMergeAudioProcessor or OTMergeTextProcessor)"
            raise ValueError(f"`processor` is a {type(self.processor).__name__}; expected {expected}.")
        self.processor.check_model(self.model)
        self.row = modality_of("context", getattr(self.model, "otmerge", self.model).context_encoder)
        self.looked_at = _LOOKED_AT[self.row.processor_part]  # what inputs call it
        if getattr(self.model, "head_is_untrained", False):
            raise ValueError(
                f"`model` {self.model.name_or_path!r} was saved as an OTMergeModel, which retrieves: it has no answer "
                "head, and answers would be random. Train one first (`training.train_answers`)."
            )

    def __call__(self, image=None, question: str | list[str] | None = None, context=None, audio=None, **kwargs):
        """Answer questions about images, sounds or passages.

        Args:
            image: A PIL image, a path, a URL, base64 text or an array; a list of them; or, in place of both arguments,
                a dict `{"image": ..., "question": ...}`, a list or generator of such dicts, or a data set with those
                columns. In a dict, a list of images belongs to one question.
            question: A question or a list. One question is asked of every image, one image gets every question.
            context: A passage of text or a list of them, in place of `image`, for a merge of two text encoders; in
                dicts and data sets, `"context"` in place of `"image"`.
            audio: A WAV file's path or bytes, or samples at the feature extractor's rate, or a list of them, in place
                of `image`, for a merge that hears; in dicts and data sets, `"audio"`.
            **kwargs: `top_k` (answers to return, default 5), `batch_size`, `timeout` in seconds for URLs.

        Returns:
            A list of `{"answer": str, "score": float}`, best first, a list for each question. Scores are
            probabilities in [0, 1]: softmax; sigmoids if the configuration's `problem_type` is
            `"multi_label_classification"`, as for soft targets.
        """
        looked_at, size = self.looked_at, kwargs.get("batch_size")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"`batch_size` is {size!r}; expected a positive integer.")
        for name, given in (("context", context), ("audio", audio)):
            if given is not None:
                if looked_at != name or image is not None:
                    expected = f"expected `{looked_at}` alone: the merge looks at {_MANY[looked_at]}"
                    raise ValueError(f"`{name}` is given; {expected}.")
                image = given
        for name, given in ((looked_at, image), ("question", question)):
            if isinstance(given, (list, tuple)) and not given:
                raise ValueError(f"`{name}` is an empty list; expected at least one.")
        if question is None:
            if image is None or isinstance(image, (str, os.PathLike, Image.Image)) or hasattr(image, "dtype"):
                expected = f"a string, or dicts with `{looked_at}` and `question`"
                raise ValueError(f"`question` is missing; expected {expected}.")
            if hasattr(image, "__getitem__") and hasattr(image, "column_names"):
                image = (row for row in image)  # a data set of `datasets`, which Pipeline would take for one input
            return super().__call__(image, **kwargs)
        if image is None:
            expected = _EXPECTED[looked_at]
            raise ValueError(f"`{looked_at}` is missing; expected {expected}.")
        if looked_at == "audio" and isinstance(image, (list, tuple)) and isinstance(image[0], (int, float)):
            image = torch.tensor(image)  # the samples of one sound
        images = image if isinstance(image, (list, tuple)) else [image]
        questions = question if isinstance(question, (list, tuple)) else [question]
        if len(images) != len(questions) and 1 not in (len(images), len(questions)):
            got = f"{len(images)} {_MANY[looked_at]} and {len(questions)} questions"
            raise ValueError(f"Got {got}; expected as many, or one.")
        count = max(len(images), len(questions))
        pairs = [{looked_at: images[i % len(images)], "question": questions[i % len(questions)]} for i in range(count)]
        single = not isinstance(image, (list, tuple)) and not isinstance(question, (list, tuple))
        return super().__call__(pairs[0] if single else pairs, **kwargs)

    def _sanitize_parameters(self, top_k=None, timeout=None, **kwargs):
        if kwargs:
            raise TypeError(f"Unexpected arguments: {', '.join(sorted(kwargs))}.")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"`top_k` is {top_k!r}; expected a positive integer.")
        return {} if timeout is None else {"timeout": timeout}, {}, {} if top_k is None else {"top_k": top_k}

    def preprocess(self, inputs, timeout=None):
        missing = {self.looked_at, "question"} - set(inputs if isinstance(inputs, dict) else ())
        if missing:
            expected = f"`{self.looked_at}` and `question`"
            raise ValueError(f"An input lacks {', '.join(sorted(missing))}; expected {expected}.")
        options, of_call = {}, {}
        if self.row is IMAGE:
            options = {"allow_url": True, "timeout": timeout}
        elif "sampling_rate" in self.row.call_options:
            options = of_call = {"sampling_rate": self.processor.feature_extractor.sampling_rate}
        given = inputs[self.looked_at]
        if self.row is IMAGE and isinstance(given, (list, tuple)):  # several images, one question
            opened = [[self.row.open_item(image, **options) for image in given]]
        else:
            opened = self.row.open_item(given, **options)
        item = {self.row.call_argument: opened, **of_call}
        features = self.processor(**item, text=inputs["question"], return_tensors="pt")
        return features.to(self.dtype)

    def _forward(self, model_inputs):
        return {"logits": self.model(**model_inputs).logits}

    def postprocess(self, model_outputs, top_k=5):
        logits = model_outputs["logits"][0].float()
        soft = self.model.config.problem_type == "multi_label_classification"
        scores = logits.sigmoid() if soft else logits.softmax(dim=-1)
        best = torch.topk(scores, min(top_k, len(scores)))
        names = self.model.config.id2label
        return [
            {"score": score, "answer": names[index]}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


class OTMergeClassificationPipeline(OTMergeVQAPipeline):
    """Classifies an image together with a text, or alone: entailment, memes, labels of images.

    Registered as `otmerge-classification`. The model is an [`OTMergeForQuestionAnswering`]: classes are its answers,
    and the text, a statement or nothing, is where a question would stand.

    Example:
        >>> from transformers import BertConfig, BertTokenizer, ViTConfig, ViTImageProcessor, pipeline
        >>> import otmerge_hf
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(**small), BertConfig(**small)
        >>> config = otmerge_hf.OTMergeConfig.from_encoder_configs(*encoders, id2label={0: "true", 1: "false"})
        >>> tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "red": 5})
        >>> processor = otmerge_hf.OTMergeProcessor(ViTImageProcessor(), tokenizer)
        >>> model = otmerge_hf.OTMergeForQuestionAnswering(config)
        >>> pipe = pipeline("otmerge-classification", model=model, processor=processor, device="cpu")
        >>> sorted(found["label"] for found in pipe(Image.new("RGB", (40, 40), "red"), text="it is red"))
        ['false', 'true']
    """

    def __call__(self, image=None, text: str | list[str] | None = None, context=None, audio=None, **kwargs):
        """Classify images, sounds or passages.

        Args:
            image, context, audio, **kwargs: As of [`OTMergeVQAPipeline`]; in dicts and data sets the text is `"text"`.
            text: A statement or a list; empty where images alone are classified.

        Returns:
            A list of `{"label": str, "score": float}`, best first, a list for each input.
        """
        if "question" in kwargs:
            raise TypeError("`question` is no argument of this pipeline; expected `text`.")
        if text is None and any(given is not None for given in (image, context, audio)) and not _holds_dicts(image):
            text = NO_TEXT
        if isinstance(text, (list, tuple)):
            text = [one or NO_TEXT for one in text]
        return super().__call__(image, NO_TEXT if text == "" else text, context, audio, **kwargs)

    def preprocess(self, inputs, timeout=None):
        if isinstance(inputs, dict) and "question" not in inputs:
            inputs = {**inputs, "question": inputs.get("text") or NO_TEXT}
        return super().preprocess(inputs, timeout)

    def postprocess(self, model_outputs, top_k=5):
        found = super().postprocess(model_outputs, top_k)
        return [{"score": one["score"], "label": one["answer"]} for one in found]


def _holds_dicts(image) -> bool:
    """Whether the first argument is rows: a dict, some of them, or a data set."""
    first = image[0] if isinstance(image, (list, tuple)) and image else image
    return isinstance(first, dict) or hasattr(image, "column_names") or hasattr(image, "__next__")


__all__ = ["OTMergeClassificationPipeline", "OTMergeVQAPipeline"]
