"""What methods are run on: rows that name cached features by number, and the data sets behind them."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any


#: Tasks that are read from a folder of the user's: name -> module, loader, what else the loader is told.
FROM_FOLDER: dict[str, tuple[str, str, dict[str, str]]] = {
    "flickr8k": ("flickr8k", "load_flickr8k", {}),
    "esnlive_f8k": ("esnlive_f8k", "load_esnlive_f8k", {}),
    "daquar": ("daquar", "load_daquar", {"subset": "single"}),
    "daquar-all": ("daquar", "load_daquar", {"subset": "all"}),
    "daquar-reduced37": ("daquar", "load_daquar", {"subset": "reduced37"}),
}


def get_loader(name: str) -> Callable[..., Any]:
    """Import the loader of a task: `loader(recipe, data, cache_dir, scratch)`.

    Returns:
        A function that returns a [`Task`](task.Task), for `flickr8k` a [`RetrievalTask`](flickr8k.RetrievalTask).

    Raises:
        ValueError: If there is no such task.

    Example:
        >>> get_loader("daquar-all").keywords
        {'subset': 'all'}
    """
    if name not in FROM_FOLDER:
        raise ValueError(f"`task` is {name!r}; expected one of {', '.join(FROM_FOLDER)}.")
    module, function, options = FROM_FOLDER[name]
    return partial(getattr(import_module(f"{__name__}.{module}"), function), **options)
