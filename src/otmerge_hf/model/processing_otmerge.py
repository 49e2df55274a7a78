"""Raw images, sounds and texts in, the model's batch out; one processor class per kind of context."""

import inspect
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.feature_extraction_utils import BatchFeature, FeatureExtractionMixin
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from .image_rows import fold_rows, images_by_row
from .images import open_image
from .modality import CONTEXTS, modality_of
from .sounds import is_sound_file, open_waveform
from .texts import as_batch, check_texts, load_tokenizer, name_given, text_options


logger = logging.get_logger(__name__)

# What a processor that is saved in a folder of its own needs beside it.
_CODE_FILES = ("processing_otmerge.py", "modality.py", "image_rows.py", "images.py", "sounds.py", "texts.py")
# What SAM's image processor adds for its decoder of masks; the encoder takes none of it.
_OF_OTHER_PARTS = ("original_sizes", "reshaped_input_sizes")


class OTMergeProcessor(ProcessorMixin):
    r"""Image processor and tokenizer of a merge; `processor(images=..., text=..., return_tensors="pt")`.

    Images are opened by `open_image`: turned as EXIF says, transparent parts white, 16 bits scaled to 8, RGB.

    Raises:
        ValueError: On an empty question, an image that cannot be read, or when neither side is given.

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

    context_part = "image_processor"  # the rows of `CONTEXTS` with this `processor_part` are what it serves

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """Process images and questions; either may be left out, to encode one side alone.

        Args:
            images: A PIL image, a path, a URL or base64 text, or an array of pixels; or a list of them. Arrays of
                floats of any shape go to the image processor as they are. A list of lists has several images a row:
                `pixel_values` (B, n, C, H, W), and `image_mask` (B, n) where rows have different numbers of them.
            text: A question or a list of them.
            **kwargs: `return_tensors`, and options of the image processor and the tokenizer.
        """
        _check_given("text", text, images=images)
        counts = images_by_row(images)
        if images is not None:
            images = _open_each(images)
        if counts:  # in place of an image that a row lacks stands its last one; the mask hides it
            images = [image for row in images for image in [*row, *row[-1:] * (max(counts) - len(row))]]
        # the tokenizer's options may come by name or in `text_kwargs`
        of_text = dict(kwargs.pop("text_kwargs", None) or {})
        if text is not None:
            options = text_options("tokenizer", self.tokenizer, kwargs | of_text)
            of_text = {name: value for name, value in options.items() if name not in kwargs} | of_text
        kwargs["text_kwargs"] = of_text
        with name_given(images=images, text=text):
            made = super().__call__(images=images, text=text, **kwargs)
        for name in _OF_OTHER_PARTS:
            made.pop(name, None)
        if counts:
            fold_rows(made, counts)
        return made

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Load the processor that was saved, for whatever kind of context.

        A model type has one registered processor class in transformers; this one stands for all.
        """
        if cls is OTMergeProcessor:
            saved, _ = cls.get_processor_dict(pretrained_model_name_or_path, **kwargs)
            for other in (OTMergeAudioProcessor, OTMergeTextProcessor):
                if other.context_part in saved:
                    return other.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @staticmethod
    def from_encoders_pretrained(context: str, query: str, context_kwargs: dict | None = None):
        """Build the processor of a merge from its encoders' own names or folders.

        The context has an image processor, a feature extractor or a tokenizer; `context_kwargs` are its options, such
        as `size`.
        """
        tokenizer = load_tokenizer(query)
        for kind in (AutoImageProcessor, AutoFeatureExtractor):
            try:
                return make_processor(kind.from_pretrained(context, **(context_kwargs or {})), tokenizer)
            except (OSError, ValueError):
                continue  # it has none of this kind
        return make_processor(load_tokenizer(context, **(context_kwargs or {})), tokenizer)

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """Save, with the code that loads this class where the package is missing, and the reference to it."""
        self.auto_map = {"AutoProcessor": "processing_otmerge.OTMergeProcessor"}
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        for name in _CODE_FILES:
            source, target = Path(__file__).with_name(name), Path(save_directory) / name
            if source.resolve() != target.resolve():
                shutil.copyfile(source, target)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def to_dict(self, *args, **kwargs) -> dict:
        """Return what is saved; it names the registered class, whose `from_pretrained` comes back to this one."""
        return super().to_dict(*args, **kwargs) | {"processor_class": "OTMergeProcessor"}

    def check_model(self, model) -> None:
        """Raise ValueError if this processor cannot feed `model`: another modality, or another vocabulary."""
        encoder = getattr(model, "otmerge", model).context_encoder
        feeds, takes = self.context_input_names, modality_of("context", encoder).argument
        if takes not in feeds:
            raise ValueError(
                f"The processor makes {' or '.join(feeds)}, the model's `{encoder.config.model_type}` context encoder "
                f"takes {takes}: they belong to different models."
            )
        for part, side in (("tokenizer", "query"), ("context_tokenizer", "context")):
            tokenizer = getattr(self, part, None)
            vocab_size = getattr(getattr(model.config, f"{side}_config"), "vocab_size", None)
            if tokenizer is not None and vocab_size is not None and len(tokenizer) > vocab_size:
                raise ValueError(
                    f"The processor's {part} has {len(tokenizer)} tokens, the model's {side} encoder knows "
                    f"{vocab_size}: they belong to different models."
                )

    @property
    def context_input_names(self) -> list[str]:
        """Names of the context tensors that this processor makes, as `forward` of the merge takes them."""
        made = getattr(self, self.context_part).model_input_names
        rows = (row for row in CONTEXTS if row.processor_part == self.context_part)
        return [row.argument for row in rows if row.encoder_input in made]


class OTMergeAudioProcessor(OTMergeProcessor):
    r"""Audio feature extractor and tokenizer of a merge; `processor(audio=..., text=..., return_tensors="pt")`.

    The sound's mask is called `context_attention_mask`: `attention_mask` is the question's.
    """

    context_part = "feature_extractor"

    def __init__(self, feature_extractor=None, tokenizer=None, **kwargs):
        ProcessorMixin.__init__(self, feature_extractor, tokenizer, **kwargs)

    def __call__(self, audio=None, text=None, sampling_rate: int | None = None, **kwargs) -> BatchFeature:
        """Process sounds and questions; either may be left out.

        Args:
            audio: One waveform (samples,), mono, or a WAV file's path or bytes; or a list of them.
            text: A question or a list of them.
            sampling_rate: Of waveforms, in Hz; checked against the feature extractor's. Files bring their own, and
                are brought to the feature extractor's.
            **kwargs: `return_tensors`, options of the tokenizer, and those of the feature extractor in a dict,
                `audio_kwargs`.

        Raises:
            ValueError: On an empty question, a missing or wrong sampling rate, or when neither side is given.
        """
        _check_given("text", text, audio=audio)
        if audio is not None:
            audio, sampling_rate = self._open(audio, sampling_rate)
        if audio is not None and sampling_rate is None:
            expected = getattr(self.feature_extractor, "sampling_rate", "the one of the sound")
            raise ValueError(f"`sampling_rate` is missing; expected {expected} Hz, which the feature extractor takes.")
        tensors, of_audio = kwargs.pop("return_tensors", None), kwargs.pop("audio_kwargs", None) or {}
        data = {}
        if text is not None:
            options = text_options("tokenizer", self.tokenizer, kwargs)
            with name_given(text=text):
                data = dict(self.tokenizer(as_batch(text, tensors), **options))
        if audio is not None:
            of_audio = {"return_attention_mask": True} | of_audio
            padding = inspect.signature(self.feature_extractor.__call__).parameters.get("padding")
            if padding is not None and padding.default is False:
                of_audio.setdefault("padding", True)  # others pad to the length that their encoder needs
            with name_given(audio=audio):
                made = self.feature_extractor(audio, sampling_rate=sampling_rate, **of_audio)
            if "is_longer" in made:
                made["is_longer"] = self._are_longer(audio)
            data.update({"context_attention_mask" if k == "attention_mask" else k: v for k, v in made.items()})
        return BatchFeature(data, tensor_type=tensors)

    def _open(self, audio: Any, sampling_rate: int | None) -> tuple[Any, int | None]:
        """Read what are files; their sampling rate is known where none of the sounds is a waveform."""
        several = isinstance(audio, (list, tuple)) and any(map(is_sound_file, audio))
        if not (several or is_sound_file(audio)):
            return audio, sampling_rate
        sounds, rate = audio if several else [audio], self.feature_extractor.sampling_rate
        opened = [open_waveform(sound, rate) for sound in sounds]
        return opened if several else opened[0], rate if all(map(is_sound_file, sounds)) else sampling_rate

    def _are_longer(self, audio: Any) -> list[list[bool]]:
        """Which sounds CLAP does not hear whole; its extractor marks one at random where there is none."""
        longest, sounds = self.feature_extractor.nb_max_samples, audio if torch.as_tensor(audio[0]).dim() else [audio]
        longer = [[len(sound) > longest] for sound in sounds]
        if [True] in longer:
            seconds = longest / self.feature_extractor.sampling_rate
            logger.warning_once(
                f"A sound is longer than the {seconds:g} s that CLAP takes: its extractor cuts at random, and its "
                "features differ from call to call. Cut it before."
            )
        return longer


class OTMergeTextProcessor(OTMergeProcessor):
    r"""Two tokenizers of a merge of texts; `processor(context_text=..., text=..., return_tensors="pt")`."""

    context_part = "context_tokenizer"

    def __init__(self, context_tokenizer=None, tokenizer=None, **kwargs):
        ProcessorMixin.__init__(self, context_tokenizer, tokenizer, **kwargs)

    def __call__(self, context_text=None, text=None, **kwargs) -> BatchFeature:
        """Process passages and questions, one or a list of either; either may be left out. Options go to both.

        Raises:
            ValueError: On an empty text, or when neither side is given.
        """
        _check_given("text", text, context_text=context_text)
        check_texts("context_text", context_text)
        tensors, data = kwargs.pop("return_tensors", None), {}
        if text is not None:
            options = text_options("tokenizer", self.tokenizer, kwargs)
            with name_given(text=text):
                data = dict(self.tokenizer(as_batch(text, tensors), **options))
        if context_text is not None:
            options = text_options("context_tokenizer", self.context_tokenizer, kwargs)
            with name_given(context_text=context_text):
                made = self.context_tokenizer(as_batch(context_text, tensors), **options)
            data.update({f"context_{name}": made[name] for name in ("input_ids", "attention_mask") if name in made})
        return BatchFeature(data, tensor_type=tensors)

    def to_dict(self, *args, **kwargs) -> dict:
        """Return what is saved; tokenizers lie in folders of their own, and the name is what tells them apart."""
        return super().to_dict(*args, **kwargs) | {self.context_part: {}}


def make_processor(context_processor, tokenizer) -> OTMergeProcessor:
    """Join a context's processor and the query's tokenizer in the class that fits."""
    if isinstance(context_processor, BaseImageProcessor):
        return OTMergeProcessor(context_processor, tokenizer)
    if isinstance(context_processor, FeatureExtractionMixin):
        return OTMergeAudioProcessor(context_processor, tokenizer)
    if isinstance(context_processor, PreTrainedTokenizerBase):
        return OTMergeTextProcessor(context_processor, tokenizer)
    raise ValueError(
        f"`context_processor` is a {type(context_processor).__name__}; expected an image processor, an audio feature "
        "extractor or a tokenizer."
    )


def _open_each(images: Any) -> Any:
    """Open an image or a (nested) list of them; colours as floats are left to the image processor."""
    if isinstance(images, (list, tuple)):
        return [_open_each(image) for image in images]
    shape = getattr(images, "shape", ())
    if 0 in shape:
        raise ValueError(f"`images` holds an array of shape {tuple(shape)}; expected at least one pixel.")
    if len(shape) > 2 and "float" in str(images.dtype):
        return images
    return [_open_each(image) for image in images] if len(shape) > 3 else open_image(images, allow_url=True)


def _check_given(name: str, text: Any, **context: Any) -> None:
    """Refuse a call without either side, a side that is an empty list, and empty questions."""
    ((context_name, value),) = context.items()
    if value is None and text is None:
        raise ValueError(f"`{context_name}` and `{name}` are both missing; expected at least one.")
    for side, given in ((context_name, value), (name, text)):
        if isinstance(given, (list, tuple)) and not given:
            raise ValueError(f"`{side}` is an empty list; expected at least one item, or None to leave the side out.")
    check_texts(name, text)


__all__ = ["OTMergeAudioProcessor", "OTMergeProcessor", "OTMergeTextProcessor"]
