"""A saved merge's folder -> its README: ours is renewed, a person's is never written over."""

import functools
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoConfig

from ..model.configuration_otmerge import OTMergeConfig
from .facts import CardFacts
from .model_card import MARK, find_facts, make_card, render
from .pictures import FOLDER, find_pictures, without_pictures
from .trainer_card import add_tags, add_trainer_card, is_trainer_card


logger = logging.getLogger(__name__)
_README, _RESULTS = "README.md", "results.json"
_TEMPLATE_SAYS = "This is the model card of a 🤗 transformers model that has been pushed on the Hub."


def write_card(
    folder: str | os.PathLike, output: str | os.PathLike | None = None, name: str | None = None
) -> Path | None:
    """Write the card of a saved merge, from its configuration, its `results.json` and the pictures of `report/`.

    Args:
        folder: Where the merge is saved; without `results.json` the card is short.
        output: File; `README.md` in the folder when None, which is left as it is, with a warning, if somebody wrote
            it: if it is neither ours nor Trainer's. What Trainer recorded in it is kept as a part.
        name: Of the model, as others load it: the Hub repository's; the folder's when None.

    Returns:
        The file, or None if it was left as it is.

    Raises:
        OSError: If there is no configuration in the folder, or the file cannot be written.
        ValueError: If the folder holds no merge, or its `results.json` is of something else.
    """
    folder = Path(folder)
    target = folder / _README if output is None else Path(output)
    if output is None and not _may_replace(target):
        logger.warning("%s is left as it is: it was not written by otmerge_hf.", target)
        return None
    card = card_of(folder, name)
    if (there := folder / _README).exists():
        card = add_trainer_card(card, there.read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(str(card), encoding="utf-8")
    return target


def write_missing_card(folder: str | os.PathLike) -> None:
    """Give a folder that was just saved a short card, without figures, if it has no README at all."""
    if (target := Path(folder) / _README).exists():
        return
    try:
        config = OTMergeConfig.from_pretrained(folder)
        target.write_text(str(make_card(config, None, _name(Path(folder)))), encoding="utf-8")
    except Exception as error:  # the weights are saved: a training shall not end for want of a README
        logger.warning("%s has no model card: %s", folder, error)


def write_hub_card(folder: str | os.PathLike, name: str, before: str | None = None) -> None:
    """Give a folder that goes up to the Hub a card, in place of the template that transformers put there.

    A README that the folder had goes up as it was. One that the repository has stays, unless it is a template, ours
    without figures, or Trainer's, which is kept as a part of ours.

    Args:
        folder: With the README that transformers would push: the repository's, or a template, with the user's tags.
        name: Of the repository.
        before: The folder's README before transformers put its own there.
    """
    target = Path(folder) / _README
    if before is not None and not _is_template(ModelCard(before)):
        shown = without_pictures(before) if MARK in before and not (Path(folder) / FOLDER).is_dir() else before
        target.write_text(shown, encoding="utf-8")
        return
    found = ModelCard(text := target.read_text(encoding="utf-8"))
    ours, figures = MARK in text, found.data.get("eval_results")
    if is_trainer_card(text) or _is_template(found) or (ours and not figures):
        try:
            card = add_trainer_card(make_card(OTMergeConfig.from_pretrained(folder), None, name), text)
            add_tags(card, found.data.get("tags"))
            card.save(target)
        except Exception as error:  # nothing but a README is worse for it
            logger.warning("%s has no model card of its own: %s", name, error)
    elif ours:
        logger.warning("%s keeps its model card and the figures in it: are they of the weights that go up?", name)


def keep_card(trainer: Any) -> Any:
    """Let a Trainer's `create_model_card`, and with it `push_to_hub`, keep the card that stands in its folder.

    What Trainer writes in place of ours becomes a part of it; a person's README stays as it is. Where there is none,
    Trainer's stands alone, as ever.

    Args:
        trainer: The stock Trainer; `trainer.save_model()` of a merge writes the card, where there is none.

    Returns:
        The same Trainer.
    """
    create, readme = trainer.create_model_card, Path(trainer.args.output_dir, _README)

    @functools.wraps(create)
    def create_and_keep(*args: Any, **kwargs: Any) -> None:
        before = readme.read_text(encoding="utf-8") if readme.is_file() else None
        create(*args, **kwargs)
        if before is None or is_trainer_card(before) or not trainer.is_world_process_zero():
            return
        if MARK in before:
            write_card(trainer.args.output_dir, name=trainer.hub_model_id)
        else:
            readme.write_text(before, encoding="utf-8")

    trainer.create_model_card = create_and_keep
    return trainer


def card_of(folder: Path, name: str | None = None) -> ModelCard:
    """Card of a saved merge; see [`write_card`]."""
    return render(facts_of(folder, name))


def facts_of(folder: str | os.PathLike, name: str | None = None) -> CardFacts:
    """What the card of a saved merge states; raises as [`write_card`] does, the folder may be a name on the Hub."""
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, OTMergeConfig):
        raise ValueError(f"model {str(folder)!r} is a {config.model_type} model; expected a merge")
    results: Any = None
    if (file := Path(folder) / _RESULTS).is_file():
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {error.lineno}: {error.msg}") from error
        if not isinstance(results, dict):
            raise ValueError(f"{file} holds a {type(results).__name__}; expected results by name")
    pictures = find_pictures(file.parent)
    try:
        return replace(find_facts(config, results, name or _name(file.parent)), pictures=pictures)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _name(folder: Path) -> str:
    return folder.resolve().name


def _may_replace(file: Path) -> bool:
    """Whether a README is not there, is ours, or is one that Trainer wrote."""
    if not file.exists():
        return True
    text = file.read_text(encoding="utf-8")
    return MARK in text or is_trainer_card(text)


def _is_template(card: ModelCard) -> bool:
    """Whether a card is the one that `push_to_hub` of transformers makes, as it made it."""
    blank = set(ModelCard.from_template(ModelCardData()).text.splitlines())
    return all(line in blank or line.startswith(_TEMPLATE_SAYS) for line in card.text.splitlines())
