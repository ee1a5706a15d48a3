"""SIGINT and SIGTERM: the first asks a run to stop, the second stops it at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self

ASKING = (signal.SIGINT, signal.SIGTERM)
TOGETHER = 1.0  # seconds; SLURM sends a signal to torchrun and to its processes, and torchrun passes it on


class Stopped(KeyboardInterrupt):
    """A signal, `number`, ended a run that had saved a checkpoint by then."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal ended, as shells tell it: 130 or 143."""
    return 128 + getattr(stop, "number", signal.SIGINT)


class Signals:
    """Notes the first signal that comes while the block runs, in `number`, and calls `on_first` with it.

    `on_second` is called with the next one; without it that signal does what it does outside of the block.
    Signals that come within a second of the first are taken for the same. Outside of the main thread, where
    Python lets nobody listen, and for signals that are ignored, nothing is changed.
    """

    def __init__(
        self, on_first: Callable[[int], None], on_second: Callable[[int], NoReturn] | None = None
    ) -> None:
        self.number = 0
        self.on_first = on_first
        self.on_second = on_second or self._stop_at_once

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        heard = [number for number in ASKING if is_main and signal.getsignal(number) != signal.SIG_IGN]
        self.process = os.getpid()
        self.earlier = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() != self.process:  # a copy of it, which this is not for
            return
        if not self.number:
            self.number, self.since = number, now
            self.on_first(number)
        elif now - self.since > TOGETHER:
            self.on_second(number)

    def _stop_at_once(self, number: int) -> NoReturn:
        self.__exit__()
        signal.raise_signal(number)
        raise Stopped(number)  # where a handler that was there before let the run go on
