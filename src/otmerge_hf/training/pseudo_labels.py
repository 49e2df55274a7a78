"""Pseudo-labels: aligned encoders answer unlabelled questions by the statement that lies nearest to the context."""

import string
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data.distinct import index_distinct
from ..data.statements import NoStatement, statement
from ..features import FeatureStore, embed, encode
from ..model.processing_otmerge import OTMergeProcessor
from .attachment import base_model, find_host


# How a question and an answer become a statement: "{question} {answer}", or a function that raises ValueError where
# the two make none.
Rule = str | Callable[[str, str], str]
Rows = Sequence[int] | Tensor
REFUSED = -100  # the label of a question that was not answered; the answer loss ignores it
_BLOCK = 2**24  # floats held at a time for one question and all its contexts: 64 MiB


@dataclass(frozen=True)
class PseudoLabels:
    """Answers that aligned encoders gave. Shapes: Q questions.

    Attributes:
        labels: (Q,) long, places among the answers; -100 where a question has no statement.
        scores: (Q,) cosine of the context and the nearest statement; NaN where there is none.
        margins: (Q,) cosine of the nearest minus that of the second nearest; infinite where only one answer makes a
            statement, NaN where none does.
        refused: How many questions were refused, by reason.
    """

    labels: Tensor
    scores: Tensor
    margins: Tensor
    refused: dict[str, int] = field(default_factory=dict)

    def rows(self, min_margin: float = 0.0) -> Tensor:
        """Numbers of the answered questions whose margin is at least `min_margin`, ascending."""
        return ((self.labels != REFUSED) & (self.margins >= min_margin)).nonzero()[:, 0]


def candidate_statements(question: str, answers: Sequence[str], rule: Rule = statement) -> dict[int, str]:
    """Statement that each answer makes of a question, by the answer's place; answers that make none are left out.

    The rule is that of [`make_pseudo_labels`].

    Example:
        >>> candidate_statements("what color is the car?", ["red", "two", "blue"])
        {0: 'the car is red', 2: 'the car is blue'}
        >>> candidate_statements("why?", ["because"], rule="{question} {answer}")
        {0: 'why? because'}
    """
    return _candidates(question, answers, _function(rule))[0]


def nearest_statement(
    context_embeds: Tensor,
    statement_embeds: Tensor,
    contexts: Rows,
    questions: Rows,
    candidates: Sequence[Mapping[int, int]] | Mapping[int, Mapping[int, int]],
) -> PseudoLabels:
    r"""Answer questions by the cosine of their context and each candidate statement.

    $$ \hat a = \arg\max_a \cos(x_c, y_{s(q, a)}) $$

    Each distinct question is answered for all its contexts at once, by its own candidates alone: no matrix of all
    contexts and statements is made.

    Args:
        context_embeds, statement_embeds: (N_c, D), (N_s, D) shared embeddings.
        contexts: Row of each question's context, (Q,).
        questions: Number of each question, (Q,): its place in `candidates`.
        candidates: Per question number, `{answer: row of its statement}`; a question with none is refused.

    Raises:
        ValueError: If shapes do not fit, an embedding is not finite, or no question has a candidate.
        IndexError: If a row is out of range.

    Example:
        >>> images, statements = torch.eye(3), torch.eye(3)
        >>> made = nearest_statement(images, statements, [0, 2, 1], [0, 0, 1], [{5: 0, 7: 2}, {}])
        >>> made.labels.tolist(), made.margins.tolist(), made.refused
        ([5, 7, -100], [1.0, 1.0, nan], {'no answer makes a statement': 1})

    Source: Song et al. 2022 ("CLIP Models are Few-shot Learners", ACL).
    """
    for name, embeds in (("context_embeds", context_embeds), ("statement_embeds", statement_embeds)):
        if embeds.dim() != 2 or embeds.shape[1] != context_embeds.shape[-1]:
            raise ValueError(f"`{name}` has shape {tuple(embeds.shape)}; expected (rows, shared width), one width.")
        if not embeds.isfinite().all():
            raise ValueError(f"`{name}` holds NaN or infinite values.")
    context_rows, question_rows = (torch.as_tensor(rows, dtype=torch.long) for rows in (contexts, questions))
    if context_rows.shape != question_rows.shape or context_rows.dim() != 1:
        raise ValueError(f"`contexts` has {len(context_rows)} rows and `questions` {len(question_rows)}.")
    if len(context_rows) and not 0 <= int(context_rows.min()) <= int(context_rows.max()) < len(context_embeds):
        raise IndexError(f"`contexts` names rows up to {int(context_rows.max())}; there are {len(context_embeds)}.")
    y = nn.functional.normalize(statement_embeds.detach().float(), dim=-1)
    x = nn.functional.normalize(context_embeds.detach().float(), dim=-1).to(y.device)
    distinct, place = question_rows.unique(return_inverse=True)
    labels = torch.full_like(place, REFUSED)
    scores, margins = (torch.full(place.shape, float("nan")) for _ in range(2))
    askings = place.argsort(stable=True).split(place.bincount(minlength=len(distinct)).tolist())
    for number, asked in zip(distinct.tolist(), askings, strict=True):
        if not (made := candidates[number]):
            continue
        answers, offered = torch.tensor(list(made)), y[list(made.values())]  # (K,), (K, D)
        for rows in asked.split(max(1, _BLOCK // max(offered.shape))):
            cosine = (x[context_rows[rows].to(x.device)] @ offered.T).cpu()  # (b, K)
            best = cosine.argmax(dim=1, keepdim=True)  # the first of equals
            labels[rows] = answers[best[:, 0]]
            scores[rows] = cosine.gather(1, best)[:, 0]
            margins[rows] = scores[rows] - cosine.scatter(1, best, float("-inf")).amax(dim=1)
    refused = int((labels == REFUSED).sum())
    if refused == len(labels):
        raise ValueError(f"None of the {len(labels)} `questions` has a candidate statement.")
    return PseudoLabels(labels, scores, margins, {"no answer makes a statement": refused} if refused else {})


def make_pseudo_labels(
    model: nn.Module,
    processor: OTMergeProcessor,
    contexts: FeatureStore | Tensor,
    questions: Sequence[str],
    context_rows: Rows,
    answers: Sequence[str],
    *,
    rule: Rule = statement,
    cache_dir: str | None = None,
    **options: Any,
) -> PseudoLabels:
    r"""Answer unlabelled questions by aligned encoders: each answer makes a statement, the nearest one wins.

    Train on the result as on labels (`train_answers`); what comes out is an ordinary merge, which needs no statement.

    Args:
        model, processor: A merge whose sides are aligned (`train_alignment` or `load_alignment`), and its processor.
        contexts: Encoder features of the contexts ([`features.encode`]), or their shared embeddings (N_c, D).
        questions: Q texts.
        context_rows: Row of each question's context, (Q,).
        answers: What may be answered; labels are places in this list, as in the model's `id2label`.
        rule: How question and answer become a statement: a template with `{question}` and `{answer}`, or a function
            that returns the statement and raises ValueError where there is none. The default, [`data.statement`],
            knows the usual forms of English questions.
        cache_dir, **options: Of [`features.encode`], for the statements; None keeps no features.

    Raises:
        ValueError: If no question has a statement (the message has the reasons), or an argument does not fit.

    Example: [`nearest_statement`] has one, from the embeddings on; the texts are [`candidate_statements`]'.

    Source: pseudo-labels, Lee 2013; the teacher is the zero-shot answer by statements of Song et al. 2022.
    """
    make = _function(rule)
    rows = torch.as_tensor(context_rows, dtype=torch.long)
    if len(questions) == 0 or rows.shape != (len(questions),):
        raise ValueError(
            f"`questions` holds {len(questions)} texts and `context_rows` {len(rows)}; expected one each."
        )
    if not answers:
        raise ValueError("`answers` is empty; expected what may be answered.")
    distinct, numbers = index_distinct(questions)
    found = [_candidates(question, answers, make) for question in distinct]
    reasons = Counter(found[number][1] for number in numbers if not found[number][0])
    if sum(reasons.values()) == len(questions):
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
        raise ValueError(f"None of the {len(questions)} `questions` makes a statement: {why}. Give another `rule`.")
    base = base_model(find_host(model))
    texts, places = index_distinct([text for made, _ in found for text in made.values()])
    place = iter(places)
    candidates = [{answer: next(place) for answer in made} for made, _ in found]
    options = {"share": cache_dir is not None} | options  # each rank has a scratch folder of its own
    with tempfile.TemporaryDirectory() as scratch:
        store = encode(base, processor, "query", texts, cache_dir=cache_dir or scratch, **options)
        statement_embeds = embed(base, store, "query")
        del store
    context_embeds = embed(base, contexts, "context") if isinstance(contexts, FeatureStore) else contexts
    answered = nearest_statement(context_embeds, statement_embeds, rows, numbers, candidates)
    return PseudoLabels(answered.labels, answered.scores, answered.margins, dict(reasons))


def _function(rule: Rule) -> Callable[[str, str], str]:
    if callable(rule):
        return rule
    if not isinstance(rule, str):
        raise ValueError(f"`rule` is a {type(rule).__name__}; expected a template or a function.")
    fields = {name for _, name, _, _ in string.Formatter().parse(rule) if name is not None}
    if fields != {"question", "answer"}:
        raise ValueError(f"`rule` is {rule!r}; expected a template with {{question}} and {{answer}} alone.")
    return lambda question, answer: rule.format(question=question, answer=answer)


def _candidates(question: str, answers: Sequence[str], make: Callable[[str, str], str]) -> tuple[dict[int, str], str]:
    """Statement by answer, and the most common reason for which an answer makes none."""
    made, reasons = {}, Counter[str]()
    for place, answer in enumerate(answers):
        try:
            made[place] = make(question, answer)
        except ValueError as error:
            reasons[error.reason if isinstance(error, NoStatement) else str(error)] += 1
    return made, reasons.most_common(1)[0][0] if reasons else ""
