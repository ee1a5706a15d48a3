"""Keeps the libraries' own talk off the screen of a run."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import datasets
from transformers.utils import logging as transformers_logging

from silogen_runtime.environment import variable

if TYPE_CHECKING:
    from collections.abc import Iterator

# Warnings about what the runtime does on purpose, or that a person can do nothing about.
KNOWN_WARNINGS = (
    r"'pin_memory' argument is set as true but no accelerator is found",
    r"The `'keep_end'` truncation mode is deprecated",  # its page says so
    r"This process \(pid=\d+\) is multi-threaded, use of fork",  # the copies only tokenize
    r"`\w+` is deprecated and will be removed in v6",  # peft and trl call transformers by older names
    r"Setting `save_embedding_layers` to `True`",  # in checkpoints; the trained adapter does without
    r"`torch\.distributed\.\w+` is deprecated",  # DeepSpeed calls torch by older names
    r"The PEFT config's `base_model_name_or_path` was renamed",  # a finding tells where it matters
    r"Model (has|with) `tie_word_embeddings=True` and",  # merging unties what an adapter has made different
    r"Sparse invariant checks are implicitly disabled",  # SHIRA keeps its weights sparse
)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Let through errors only, and no bars; everything is as it was when the block ends."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled(), not datasets.are_progress_bars_disabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    try:
        with (
            warnings.catch_warnings(),
            _log_level(logging.ERROR, "accelerate", "bitsandbytes", "alembic", "mlflow", "peft"),
            variable("TQDM_DISABLE", "1"),  # the bars of TRL
        ):
            for message in KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars[0]:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if bars[1]:
            datasets.enable_progress_bars()


@contextmanager
def _log_level(level: int, *names: str) -> Iterator[None]:
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, kept in loggers.items():
            logger.setLevel(kept)
