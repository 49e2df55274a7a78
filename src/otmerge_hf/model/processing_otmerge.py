"""Raw images, sounds and texts in, the model's batch out; one processor class per kind of context."""

import inspect
import shutil
from pathlib import Path

from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer, ProcessorMixin
from transformers.feature_extraction_utils import BatchFeature, FeatureExtractionMixin
from transformers.image_processing_utils import BaseImageProcessor


def _check_questions(text) -> None:
    """Refuse empty questions: they would become a batch row that is nothing but special tokens."""
    if text is None:
        return
    for row, question in enumerate([text] if isinstance(text, str) else text):
        if isinstance(question, str) and not question.strip():
            raise ValueError(f"`text` row {row} is empty; expected a question of at least one character.")


class OTMergeProcessor(ProcessorMixin):
    r"""Image processor and tokenizer of a merge; `processor(images=..., text=..., return_tensors="pt")`.

    Args:
        image_processor: The image encoder's image processor.
        tokenizer: The query encoder's tokenizer.

    Raises:
        ValueError: On an empty question or when neither side is given.

    Example:
        >>> from PIL import Image
        >>> from transformers import BertTokenizer, ViTImageProcessor
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "color", "?"]
        >>> tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
        >>> processor = OTMergeProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer)
        >>> batch = processor(images=Image.new("RGB", (40, 40)), text="what color ?", return_tensors="pt")
        >>> batch["pixel_values"].shape, batch["input_ids"].tolist()
        (torch.Size([1, 3, 32, 32]), [[2, 5, 6, 7, 3]])
    """

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """Process images and questions; either may be left out, to encode one side alone."""
        _check_questions(text)
        if images is None and text is None:
            raise ValueError("`images` and `text` are both missing; expected at least one.")
        # Batches of questions differ in length; a tensor needs padding, so it is on unless the user says otherwise.
        of_text = dict(kwargs.pop("text_kwargs", None) or {})
        for name in ("padding", "truncation"):
            if name not in kwargs:
                of_text.setdefault(name, True)
        kwargs["text_kwargs"] = of_text
        return super().__call__(images=images, text=text, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Load the processor that was saved: for an audio context that is an [`OTMergeAudioProcessor`].

        A model type has one registered processor class in transformers; this one stands for both.
        """
        if cls is OTMergeProcessor:
            saved, _ = cls.get_processor_dict(pretrained_model_name_or_path, **kwargs)
            if "feature_extractor" in saved:
                return OTMergeAudioProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @staticmethod
    def from_encoders_pretrained(context: str, query: str, context_kwargs: dict | None = None):
        """Build the processor of a merge from its encoders' own names or folders.

        Args:
            context: Where the context encoder's image processor or feature extractor is.
            query: Where the query encoder's tokenizer is.
            context_kwargs: Options for the image processor or feature extractor, such as `size`.
        """
        tokenizer = AutoTokenizer.from_pretrained(query)
        try:
            image_processor = AutoImageProcessor.from_pretrained(context, **(context_kwargs or {}))
        except (OSError, ValueError):
            extractor = AutoFeatureExtractor.from_pretrained(context, **(context_kwargs or {}))
            return OTMergeAudioProcessor(extractor, tokenizer)
        return OTMergeProcessor(image_processor, tokenizer)

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """Save, with the reference that loads this class where the package is missing."""
        self.auto_map = {"AutoProcessor": "processing_otmerge.OTMergeProcessor"}
        source, target = Path(__file__), Path(save_directory) / Path(__file__).name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)  # a processor may be saved in a folder of its own
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def check_model(self, model) -> None:
        """Raise ValueError if this processor cannot feed `model`: another modality, or another vocabulary."""
        encoder = getattr(model, "otmerge", model).context_encoder
        feeds = self.context_input_names
        if encoder.main_input_name not in feeds:
            raise ValueError(
                f"The processor makes {' or '.join(feeds)}, the model's `{encoder.config.model_type}` context encoder "
                f"takes {encoder.main_input_name}: they belong to different models."
            )
        vocab_size = getattr(model.config.query_config, "vocab_size", None)
        if vocab_size is not None and len(self.tokenizer) > vocab_size:
            raise ValueError(
                f"The processor's tokenizer has {len(self.tokenizer)} tokens, the model's query encoder knows "
                f"{vocab_size}: they belong to different models."
            )

    @property
    def context_input_names(self) -> list[str]:
        """Names of the context tensors that this processor makes."""
        return list(self.image_processor.model_input_names)


class OTMergeAudioProcessor(OTMergeProcessor):
    r"""Audio feature extractor and tokenizer of a merge; `processor(audio=..., text=..., return_tensors="pt")`.

    The sound's mask is called `context_attention_mask`: `attention_mask` is the question's.
    """

    def __init__(self, feature_extractor=None, tokenizer=None, **kwargs):
        ProcessorMixin.__init__(self, feature_extractor, tokenizer, **kwargs)

    def __call__(self, audio=None, text=None, sampling_rate: int | None = None, **kwargs) -> BatchFeature:
        """Process sounds and questions; either may be left out.

        Args:
            audio: One waveform (samples,) or a list of them, mono.
            text: A question or a list of them.
            sampling_rate: Of `audio`, in Hz; checked against the feature extractor's.
            **kwargs: `return_tensors`, options of the tokenizer, and those of the feature extractor in a dict,
                `audio_kwargs`.

        Raises:
            ValueError: On an empty question, a missing or wrong sampling rate, or when neither side is given.
        """
        _check_questions(text)
        if audio is None and text is None:
            raise ValueError("`audio` and `text` are both missing; expected at least one.")
        if audio is not None and sampling_rate is None:
            expected = getattr(self.feature_extractor, "sampling_rate", "the one of the sound")
            raise ValueError(f"`sampling_rate` is missing; expected {expected} Hz, which the feature extractor takes.")
        tensors, of_audio = kwargs.pop("return_tensors", None), kwargs.pop("audio_kwargs", None) or {}
        data = {}
        if text is not None:
            data.update(self.tokenizer(text, **{"padding": True, "truncation": True, **kwargs}))
        if audio is not None:
            of_audio = {"return_attention_mask": True} | of_audio
            padding = inspect.signature(self.feature_extractor.__call__).parameters.get("padding")
            if padding is not None and padding.default is False:
                of_audio.setdefault("padding", True)  # others pad to the length that their encoder needs
            made = self.feature_extractor(audio, sampling_rate=sampling_rate, **of_audio)
            data.update({"context_attention_mask" if k == "attention_mask" else k: v for k, v in made.items()})
        return BatchFeature(data, tensor_type=tensors)

    def to_dict(self, *args, **kwargs) -> dict:
        """Return what is saved; it names the registered class, whose `from_pretrained` comes back to this one."""
        return super().to_dict(*args, **kwargs) | {"processor_class": "OTMergeProcessor"}

    @property
    def context_input_names(self) -> list[str]:
        """Names of the context tensors that this processor makes."""
        return [name for name in self.feature_extractor.model_input_names if name != "attention_mask"]


def make_processor(context_processor, tokenizer) -> OTMergeProcessor:
    """Join a context processor (image or audio) and a tokenizer in the class that fits."""
    if isinstance(context_processor, BaseImageProcessor):
        return OTMergeProcessor(context_processor, tokenizer)
    if isinstance(context_processor, FeatureExtractionMixin):
        return OTMergeAudioProcessor(context_processor, tokenizer)
    raise ValueError(
        f"`context_processor` is a {type(context_processor).__name__}; expected an image processor or an audio "
        "feature extractor."
    )


__all__ = ["OTMergeAudioProcessor", "OTMergeProcessor"]
