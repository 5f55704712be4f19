"""Progress of transfers: a bar with bytes, rate and remaining time on a terminal, silence elsewhere."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from registry.sizes import format_size

SHOWN_BYTES = 4 << 20
"""Smaller transfers are over before a bar can be read."""


class Bar(Protocol):
    """Takes note of bytes that have moved."""

    def advance(self, size_bytes: int) -> None:
        """So many more bytes have moved; a negative number takes back what must move again."""
        ...

    def restart(self) -> None:
        """The whole transfer starts again."""
        ...


class _Silence:
    def advance(self, size_bytes: int) -> None:
        """Say nothing."""

    def restart(self) -> None:
        """Say nothing."""


@contextmanager
def progress_bar(what: str, total_bytes: int, *, wanted: bool | None) -> Generator[Bar]:
    """Show one transfer on stderr while the block runs.

    Args:
        what: a few words beside the bar (`push vision/resnet50`).
        total_bytes: what is to move.
        wanted: None shows the bar on a terminal, for what takes long enough to be seen.
    """
    if not (sys.stderr.isatty() and total_bytes >= SHOWN_BYTES if wanted is None else wanted):
        yield _Silence()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """The rate in the units of the sizes; rich's own column counts in others."""

        def render(self, task: Task) -> Text:
            """Return the rate once there is one."""
            rate = task.finished_speed or task.speed
            return Text(f"{format_size(int(rate))}/s" if rate else "", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        RateColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total_bytes)

        class _Shown:
            def advance(self, size_bytes: int) -> None:
                progress.advance(task, size_bytes)

            def restart(self) -> None:
                progress.update(task, completed=0)

        yield _Shown()
