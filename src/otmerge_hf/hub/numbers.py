"""How a card writes figures: scores with four places, counts with commas, seconds with one place."""


def score(value: float, places: int = 4) -> str:
    """A score in [0, 1], or a difference of two.

    Example:
        >>> score(0.99731)
        '0.9973'
    """
    return f"{value:.{places}f}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "seed"), counted(9673, "row")
        ('1 seed', '9,673 rows')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def seconds(value: float) -> str:
    """Seconds as they were measured.

    Example:
        >>> seconds(68.3216)
        '68.3 s'
    """
    return f"{value:,.1f} s"


def listed(values: dict[str, float]) -> str:
    """Several stages' seconds.

    Example:
        >>> listed({"features": 3.24, "fit": 0.5})
        'features 3.2 s, fit 0.5 s'
    """
    return ", ".join(f"{name.replace('_', ' ')} {seconds(value)}" for name, value in values.items())
