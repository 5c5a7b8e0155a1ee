"""Progress bars on standard error."""

import sys
import time
from typing import Any

import click


class ProgressBar:
    """A bar with the position and the time left, which can be started again.

    If `rate` is a number format, the bar also shows pictures per second.
    """

    def __init__(self, rate: str = ""):
        self._rate = rate
        self._bar: Any = None
        self._started = 0.0

    @property
    def was_started(self) -> bool:
        """Whether a bar has been shown."""
        return self._bar is not None

    def start(self, label: str, length: int) -> None:
        """Show an empty bar."""
        self._started = time.monotonic()
        show_rate = self._show_rate if self._rate else None
        self._bar = click.progressbar(
            length=length, label=label, item_show_func=show_rate, show_pos=True, file=sys.stderr
        )
        self._bar.__enter__()

    def advance(self, count: int) -> None:
        """Move the bar forward by `count`."""
        # click asks for the rate only with an item.
        self._bar.update(count, object())

    def advance_to(self, position: int) -> None:
        """Move the bar forward to `position`."""
        self.advance(position - self._bar.pos)

    def finish(self) -> None:
        """End the line of the bar."""
        self._bar.__exit__(None, None, None)

    def _show_rate(self, _: object) -> str:
        seconds = time.monotonic() - self._started
        return f"{self._bar.pos / seconds:{self._rate}} pictures/s" if self._bar.pos else ""


class IndexBar:
    """One progress bar for each stage of building an index, shown only after the first second."""

    def __init__(self) -> None:
        self._bar = ProgressBar()
        self._stage = ""
        self._started = time.monotonic()

    def show(self, stage: str, done: int, of: int) -> None:
        """Show that `done` of `of` are done in a stage."""
        if time.monotonic() - self._started < 1:
            return
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar.start(f"{stage:<9}", of)
        self._bar.advance_to(done)
        if done >= of:
            self.close()

    def close(self) -> None:
        """End the line of the last stage."""
        if self._stage:
            self._bar.finish()
        self._stage = ""
