"""Where an encoder came from, and whether it still is what it was: name, revision, class, and a digest of its weights.

In: an encoder. Out: a record of plain JSON values, that a configuration keeps.
"""

import hashlib
import os
from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash


# Each may know a folder or a name for a record whose encoder is not where the record says, and returns None if not. An
# ImportError says what is to be installed.
ENCODER_FINDERS: list[Callable[[dict[str, Any]], str | None]] = []
_ALIGNMENT = 64  # bytes, of torch's allocator


def tensor_bytes(tensor: torch.Tensor) -> bytes | memoryview:
    """A tensor's values as bytes, in order of its rows, for hashing."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def weights_digest(encoder: PreTrainedModel, without: Collection[str] = ()) -> str:
    """SHA-256 over names, types, shapes and bytes of an encoder's `state_dict`, sorted by name.

    Args:
        encoder: The encoder.
        without: Names of tensors that do not count.

    Raises:
        ValueError: If a weight has no data (meta device).

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> encoder = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
        >>> before = weights_digest(encoder)
        >>> _ = torch.nn.init.constant_(encoder.embeddings.LayerNorm.bias, 1e-9)
        >>> before == weights_digest(encoder)
        False
    """
    out = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        if name in without:
            continue
        if tensor.is_meta:
            raise ValueError(f"encoder has no data for {name} (meta device); load its weights first")
        out.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        out.update(tensor_bytes(tensor))
    return out.hexdigest()


def content_digest(encoder: PreTrainedModel, without: Collection[str] = ()) -> str:
    """SHA-256 over types, shapes and bytes of an encoder's `state_dict`, in its order, whatever the names.

    Versions of transformers differ in the names of parameters; [`weights_digest`] differs with them, this does not.

    Args:
        encoder: The encoder.
        without: Names of tensors that do not count.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> encoder = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
        >>> before = weights_digest(encoder), content_digest(encoder)
        >>> encoder.pooler.linear = encoder.pooler._modules.pop("dense")
        >>> [old == new for old, new in zip(before, (weights_digest(encoder), content_digest(encoder)))]
        [False, True]
    """
    out = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        if name not in without:
            out.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
            out.update(tensor_bytes(tensor))
    return out.hexdigest()


def is_recorded(encoder: PreTrainedModel, record: dict[str, Any]) -> bool:
    """Whether an encoder has the weights that a record tells of, under the same names or, if it says so, others."""
    missing, content = record.get("missing", ()), record.get("content")
    if weights_digest(encoder, missing) == record.get("digest"):
        return True
    return content is not None and content_digest(encoder, missing) == content


def align_in_memory(model: torch.nn.Module) -> None:
    """Move tensors that lie as their file had them to addresses as torch's own allocator gives.

    On a CPU the last bit of a product depends on the address; equal weights shall give equal numbers, from one file,
    from three, or from memory.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and type(tensor.data) is torch.Tensor and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


def describe_encoder(
    source: str | os.PathLike | PreTrainedModel,
    model: PreTrainedModel,
    encoder: PreTrainedModel,
    options: dict,
    missing: Collection[str],
) -> dict[str, Any]:
    """Record of an encoder that was just loaded.

    Args:
        source: What the user named: a name on the Hub, a folder, or the model itself.
        model: The model that came of it.
        encoder: The part of it that encodes.
        options: Of its `from_pretrained`.
        missing: Names of the model's tensors that the source lacks, which were drawn at random: often a pooler's.

    Returns:
        `name_or_path` (a folder's absolute path, `""` if unknown), `revision` (a commit's hash where it is known),
        `class_name`, `dtype`, `digest` and `content`; `subfolder` and `missing`, if there is any. What is missing does
        not count in the digests: it is another one whenever the encoder is loaded.
    """
    given = not isinstance(source, PreTrainedModel)
    name = os.fspath(source) if given else str(model.config._name_or_path or "")
    revision = None
    if os.path.isdir(name):
        name = os.path.abspath(name)
    elif given:
        revision = _commit(name, options) or options.get("revision")
    place = next(name for name, part in model.named_modules() if part is encoder)
    start = f"{place}." if place else ""
    drawn = sorted(name.removeprefix(start) for name in missing if name.startswith(start))
    further = {"subfolder": options.get("subfolder"), "missing": drawn}
    return {
        "name_or_path": name,
        "revision": revision,
        "class_name": type(encoder).__name__,
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "digest": weights_digest(encoder, drawn),
        "content": content_digest(encoder, drawn),
    } | {key: value for key, value in further.items() if value}


def _commit(name: str, options: dict) -> str | None:
    """Hash of the commit that `from_pretrained` just took from the Hub, read off the cache that it filled."""
    known = {key: options[key] for key in ("cache_dir", "revision", "subfolder") if options.get(key)}
    try:
        file = cached_file(name, "config.json", local_files_only=True, **known)
    except OSError:
        return None
    return extract_commit_hash(file, None)


def describe_encoders(model: PreTrainedModel) -> dict[str, dict[str, Any]]:
    """Record of each encoder of a merge as it is now; without a name where its weights are not those of its source."""
    records = {}
    for side, encoder in model.named_encoders().items():
        known = (model.config.encoder_sources or {}).get(side, {})
        if not is_recorded(encoder, known):
            known = {"name_or_path": "", "revision": None, "class_name": type(encoder).__name__}
            known |= {"dtype": str(encoder.dtype).removeprefix("torch.")}
            known |= {"digest": weights_digest(encoder), "content": content_digest(encoder)}
        records[side] = known
    return records


def is_folder(record: dict[str, Any]) -> bool:
    """Whether a record names a folder of some machine, which says nothing to another one."""
    return os.path.isabs(record["name_or_path"])


def without_folders(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Blank the names in records that are folders of this machine."""
    return {side: record | ({"name_or_path": ""} if is_folder(record) else {}) for side, record in records.items()}


def recorded_place(record: dict[str, Any]) -> str | None:
    """Folder or name on the Hub that a record names; None if it names none, or a folder of another machine."""
    name = record["name_or_path"]
    return name if name and (os.path.isdir(name) or not is_folder(record)) else None
