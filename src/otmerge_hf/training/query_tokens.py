"""Which layer of a text encoder to take: the one whose words, without an image, answer validation's questions best."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..alignment.encoder_pair import EncoderPair, TokenChoice
from ..data.distinct import index_distinct
from ..data.encoded import PARTS
from ..data.questions import Questions, QuestionSplits
from ..features import mean_features
from ..features.collator import dense_labels
from ..model.configuration_otmerge import TOKEN_SELECTIONS, hidden_layers
from .linear_fit import is_gain


logger = logging.getLogger(__name__)
AUTO = "auto"
LAST = "last_hidden_state"
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
_LEAST_GAIN = 0.01  # of the error: the middle layer saved 4% to 5% on entailment, below 0.2% on easy-VQA and DAQUAR
_MOST_ROWS, _MOST_TARGETS = 20_000, 5 * 10**7


class ChosenTokens(NamedTuple):
    """What [`choose_query_tokens`] took, and the validation error of each choice: squared, summed over answers."""

    choice: TokenChoice
    errors: dict[str, float]


def first_tokens(query_tokens: TokenChoice) -> TokenChoice:
    """What a merge starts from: the last layer for `"auto"`.

    Raises:
        ValueError: If it is none of the names.
    """
    if query_tokens not in (AUTO, *TOKEN_SELECTIONS) and not hidden_layers(query_tokens):
        expected = f"one of {', '.join((AUTO, *TOKEN_SELECTIONS))}, a layer's index, or several joined as in 0+3+6"
        raise ValueError(f"`query_tokens` is {query_tokens!r}; expected {expected}.")
    return LAST if query_tokens == AUTO else query_tokens


def choose_query_tokens(encoders: EncoderPair, questions: QuestionSplits, **encoding: Any) -> ChosenTokens:
    """Take the text encoder's middle layer in place of its last one, where its words answer better.

    On visual entailment the third of MiniLM's six layers is worth three points and more (docs/evidence.md). A ridge
    regression from the mean features of the training texts to the answers is measured on validation. The last layer
    is kept unless the other lowers the squared error by more than a standard error, and by a percent at least.

    Args:
        encoders: The pair.
        questions: From [`load_questions`].
        **encoding: `cache_dir`, `batch_size`, `device` of [`EncoderPair.encode`].

    Raises:
        ValueError: If a text cannot be encoded.
    """
    candidates = query_candidates(encoders)
    parts = [getattr(questions, name) for name in PARTS]
    texts, _ = index_distinct(text for part in parts for text in part.texts)  # as [`encode_questions`] asks for them
    place = {text: number for number, text in enumerate(texts)}
    rows = [_rows(part, place, questions) for part in (questions.train, questions.validation)]
    if len(candidates) == 1 or any(len(numbers) < 2 for numbers, _ in rows) or len(rows[0][0].unique()) < 2:
        return ChosenTokens(LAST, {})
    chosen, errors, least, length = candidates[0], dict[str, float](), torch.empty(0), 0
    for candidate in candidates:
        store = encoders.encode("query", candidate, {"texts": texts}, **encoding)["texts"]
        tokens = store.batch([0])[0].shape[1]
        if candidate == LAST:
            length = tokens
        elif tokens != length:  # a layer that shortens its input: its tokens are no words
            continue
        (x, y), (eval_x, eval_y) = ((mean_features(store)[numbers], labels) for numbers, labels in rows)
        found = ridge_errors(x, y, eval_x, eval_y)
        errors[str(candidate)] = float(found.mean())
        # of many rows a standard error is small: the least difference would count, and rounding too
        if candidate == LAST or (is_gain(least, found) and found.mean() < (1 - _LEAST_GAIN) * least.mean()):
            chosen, least = candidate, found
    logger.info("%s", told_choice(chosen, errors))
    return ChosenTokens(chosen, errors)


def told_choice(choice: TokenChoice, errors: Mapping[str, float]) -> str:
    """The choice as a sentence.

    Example:
        >>> told_choice(3, {"last_hidden_state": 0.4529, "3": 0.4284}).partition(": last")[0]
        'Words: hidden layer 3 of the text encoder, by their error on validation'
    """
    named = {name: "last layer" if name == LAST else f"hidden layer {name}" for name in (*errors, str(choice))}
    found = ", ".join(f"{named[name]} {error:.4f}" for name, error in errors.items())
    rule = "" if choice != LAST else " (another is taken where it saves one percent)"
    return f"Words: {named[str(choice)]} of the text encoder, by their error on validation: {found}{rule}."


def query_candidates(encoders: EncoderPair) -> list[TokenChoice]:
    """The last layer, and the middle one of an encoder with more than two."""
    layers = getattr(encoders.probe({}).query_encoder.config, "num_hidden_layers", None) or 0
    if layers <= 2:
        return [LAST]
    try:
        encoders.probe({"query": layers // 2})
    except ValueError as error:  # an encoder that hands out no hidden layers: nobody asked for one
        logger.debug("%s", error)
        return [LAST]
    return [LAST, layers // 2]


def ridge_errors(x: Tensor, y: Tensor, eval_x: Tensor, eval_y: Tensor) -> Tensor:
    """Squared error of each validation row, summed over answers, at the best of [`PENALTIES`] there.

    Shapes: (N, D), (N, L), (M, D), (M, L) -> (M,).

    Example:
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> ridge_errors(x, x, x, x).mean() < ridge_errors(x, x.abs(), x, x.abs()).mean()
        tensor(True)
    """
    mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    x, eval_x = ((part - mean).div(std).double() for part in (x, eval_x))
    bias = y.double().mean(dim=0)
    values, vectors = torch.linalg.eigh(x.T @ x)
    turned = vectors.T @ (x.T @ (y.double() - bias))
    rows = eval_x @ vectors
    tried = [
        (rows @ (turned / (values + penalty)[:, None]) + bias - eval_y).square().sum(dim=1) for penalty in PENALTIES
    ]
    return min(tried, key=lambda errors: float(errors.mean()))


def _rows(part: Questions, place: dict[str, int], questions: QuestionSplits) -> tuple[Tensor, Tensor]:
    """Places of the texts (N,) and targets (N, L) of the labelled among the rows: all, or of many rows some."""
    answers = questions.answers
    count = len(answers.names)
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0)).tolist()
    picked = order[: min(_MOST_ROWS, max(_MOST_TARGETS // count, 1))]
    texts = torch.tensor([place[part.texts[part.text_rows[row]]] for row in picked], dtype=torch.long)
    if not picked:
        return texts, torch.empty(0, count)
    labels = dense_labels(answers.labels([part.answers[row] for row in picked]), count)
    if labels.dim() == 2:
        return texts, labels
    known = labels >= 0
    return texts[known], nn.functional.one_hot(labels[known], count).float()
