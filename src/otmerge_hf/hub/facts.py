"""What a model card states, as plain values: readers fill them, the card shows them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EncoderFacts:
    """One of the two encoders.

    Attributes:
        side: `context` or `query`.
        name: As it is shown.
        hub: Its name on the Hub, or of the model that it is a copy of; None if there is none, or none is known.
        revision: Commit or branch that was loaded.
        license: As the Hub abbreviates it.
        language: Of its texts.
        tokens: What is taken from it.
        note: What to know of it.
    """

    side: str
    name: str
    hub: str | None = None
    revision: str | None = None
    license: str | None = None
    language: str | None = None
    tokens: str = "last_hidden_state"
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One figure of the merge itself, for the `model-index`: a Hub metric's name, a title, and a value."""

    kind: str
    title: str
    value: float | str


@dataclass(frozen=True)
class Table:
    """Figures side by side: the merge's and its controls'. Rows are cells as they are shown."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CardPicture:
    """A picture in the model's folder: its path from there, its title, and what it shows in words and numbers."""

    path: str
    title: str
    description: str


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card states; empty fields are shown as "not recorded", or left out of the metadata.

    Attributes:
        name: Of the model: the folder's, or the Hub repository's.
        task: The Hub's `pipeline_tag`.
        about: One paragraph: what it is.
        encoders: Both.
        parts: What stands on them, a line each.
        adapters: How far each can be inverted, a line each.
        snippet: Python that runs where the model's folder is.
        data: A line each, with counts.
        data_name: Of the data set that the metrics are of.
        datasets: Names on the Hub, of those that are there.
        stages: How it was made, in order, with settings.
        tables: Every metric with its controls.
        metrics: Those of the merge itself.
        pictures: Those of a report that lies in the model's folder.
        measured: Seed count, command, what else a reader of the tables must know; a line each.
        compute: Seconds as measured, parameters; a line each.
        limits: A line each.
        license: Of the whole; that of both encoders where they have the same, when None.
        language: As the Hub abbreviates it; the encoders' when None.
    """

    name: str
    task: str
    about: str
    encoders: tuple[EncoderFacts, ...]
    parts: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    snippet: str = ""
    data: tuple[str, ...] = ()
    data_name: str = ""
    datasets: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    metrics: tuple[Metric, ...] = ()
    pictures: tuple[CardPicture, ...] = ()
    measured: tuple[str, ...] = ()
    compute: tuple[str, ...] = ()
    limits: tuple[str, ...] = field(default=())
    license: str | None = None
    language: str | None = None
