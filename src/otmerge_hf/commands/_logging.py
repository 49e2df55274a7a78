"""What a command logs."""

import logging

from transformers.utils import logging as transformers_logging


def show_features_only(*more: str) -> None:
    """Log warnings, and of what goes well only where features come from, and what the loggers `more` say."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in ("otmerge_hf.features", *more):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)  # a README need not be a dataset card
