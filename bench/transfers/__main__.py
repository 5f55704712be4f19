"""Runs the rows that are asked for, and prints their tables.

    make bench BENCH_ARGS='--rows push,pull --gib 0.25 --rounds 3 --places memory'

Progress goes to the standard error, tables to the standard output.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from speed import say_speed

from transfers import bucket, finetunes, many, resolving, whole
from transfers.place import Place
from transfers.report import as_json, as_text
from transfers.rounds import Table, say

GIB = 1 << 30
ROWS: dict[str, Callable[[Place], Table]] = {
    "push": whole.push,
    "pull": whole.pull,
    "load": whole.load,
    "bucket-push": bucket.push,
    "bucket-pull": bucket.pull,
    "bucket-bytes": bucket.count_bytes,
    "resolve": resolving.resolve,
    "resolve-million": resolving.resolve_among_many,
    "memory-up": many.up,
    "memory-down": many.down,
    "head-push": finetunes.push_heads,
    "head-bytes": finetunes.count_push_bytes,
    "format-bytes": finetunes.count_format_bytes,
    "all-push": finetunes.push_all,
    "head-pull": finetunes.pull_heads,
    "pull-bytes": finetunes.count_pull_bytes,
    "head-download": finetunes.download,
    "checkpoints": finetunes.store_checkpoints,
}
FINETUNES = frozenset(
    {
        *("head-push", "head-bytes", "format-bytes", "all-push"),
        *("head-pull", "pull-bytes", "head-download", "checkpoints"),
    }
)
IN_MEMORY = frozenset({"push", "pull", "load", "bucket-push", "bucket-pull", "bucket-bytes"}) | FINETUNES
ON_DISK = frozenset({"push", "pull", "load", "resolve", "resolve-million", "memory-up", "memory-down"})


def main() -> int:
    """Measure, print, and return the exit status: 1 when a row failed."""
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped then, too
    say_speed()
    tables: list[Table] = []
    failed = False
    for place in open_places(options):
        for row in options.rows:
            if row not in (IN_MEMORY if place.name == "memory" else ON_DISK):
                continue
            say(f"{row}, {place.name}")
            try:
                table = ROWS[row](place)
            except Exception as error:  # noqa: BLE001 - the other rows are worth having
                failed = True
                say(f"{row} failed: {type(error).__name__}: {error}")
                continue
            tables.append(table)
            print(as_text(table), flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps([as_json(each) for each in tables], indent=1))
    if not tables and not failed:
        say("No such row is measured there: `resolve` and `memory-…` are on disk, buckets and fine-tunes in memory.")
    return int(failed)


def parse_options() -> argparse.Namespace:
    """Read from the command line what to measure, how often, and where."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=_names(ROWS), default=list(ROWS), help=f"which: {', '.join(ROWS)}")
    parser.add_argument("--places", type=_names(["memory", "disk"]), default=["memory", "disk"], help="memory, disk")
    parser.add_argument("--gib", type=float, default=1, help="size of what is moved")
    parser.add_argument("--rounds", type=int, default=8, help="in memory; the first warms up and is not counted")
    parser.add_argument("--disk-rounds", type=int, default=4, help="likewise, on disk")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder in memory")  # noqa: S108
    parser.add_argument("--disk", type=Path, default=Path(".cache/bench"), help="a folder on disk")
    parser.add_argument("--keep", type=Path, default=Path(".cache/bench"), help="where MLflow is installed once")
    parser.add_argument("--json", type=Path, help="a file for all values")
    return parser.parse_args()


def open_places(options: argparse.Namespace) -> Iterator[Place]:
    """Yield the places that are asked for, each with a folder that is gone afterwards."""
    size_bytes = int(options.gib * GIB)
    options.keep.mkdir(parents=True, exist_ok=True)
    for name in options.places:
        above = options.memory if name == "memory" else options.disk
        above.mkdir(parents=True, exist_ok=True)
        rounds = max(2, options.rounds if name == "memory" else options.disk_rounds)
        with contextlib.ExitStack() as until_the_end:
            made = tempfile.TemporaryDirectory(prefix="weighbridge-bench-", dir=above, ignore_cleanup_errors=True)
            folder = Path(until_the_end.enter_context(made)).resolve()
            yield Place(name, folder, name == "disk", rounds, size_bytes, options.keep.resolve())


def _names(known: "dict[str, Callable[[Place], Table]] | list[str]") -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        given = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(known)}")
        return given

    return read


if __name__ == "__main__":
    sys.exit(main())
