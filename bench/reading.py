"""Processor time and memory of reading weight files, in a process that runs: the corpus, and large files.

Run: make bench-reading
"""

import io
import json
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from speed import say_speed

LARGE_TENSORS = 5_000
SHARDS, SHARD_BYTES, SHARD_TENSORS = 15, 4_700_000_000, 60
ROUNDS = 5
MIB = 1 << 20


def main() -> None:
    """Write files into a folder, and read them in processes of their own, so that making them is not counted."""
    if len(sys.argv) > 1:
        print(json.dumps(measure([Path(each) for each in sys.argv[1:]])))
        return
    say_speed()
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name:
        folder = Path(name)
        for title, files in (
            ("corpus", list(write_corpus(folder / "corpus"))),
            (f"{LARGE_TENSORS:,} tensors, .pt", [write_large(folder / "large.pt")]),
            (f"{LARGE_TENSORS:,} tensors, .safetensors", [write_large(folder / "large.safetensors")]),
            (f"{SHARDS} shards of 70 GB", list(write_shards(folder / "shards"))),
        ):
            report(title, files)


def report(title: str, files: list[Path]) -> None:
    """Measure in another process, and print a line."""
    done = subprocess.run([sys.executable, __file__, *map(str, files)], capture_output=True, text=True, check=True)
    seconds, peak = json.loads(done.stdout)
    print(
        f"{title:<28} {len(files):>5} files: median {statistics.median(seconds) * 1e3:7.1f} ms, "
        f"most {max(seconds) * 1e3:7.1f} ms, all {sum(seconds):6.2f} s; peak {peak / MIB:.0f} MiB"
    )


def measure(files: list[Path]) -> tuple[list[float], int]:
    """Return the seconds of processor time of each file, the best of some rounds, and the peak memory in bytes."""
    from registry.errors import WeighbridgeError
    from registry.formats.reader import read
    from registry.formats.source import FileSource

    seconds: list[float] = []
    for file in files:
        found: list[float] = []
        for _ in range(ROUNDS if len(files) == 1 else 1):
            start = time.process_time()
            with FileSource(file) as source, suppress(WeighbridgeError):
                read(source)
            found.append(time.process_time() - start)
        seconds.append(min(found))
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return seconds, int(peak[1]) << 10 if peak else 0


def write_corpus(folder: Path) -> Iterator[Path]:
    """Write the files that the reader is judged by."""
    from corpus.harmless import harmless_cases
    from corpus.hostile import hostile_cases

    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, case in enumerate([*harmless_cases(), *hostile_cases()]):
            file = folder / str(number)
            file.write_bytes(case.build(str(folder / "marker")))
            yield file


def write_large(file: Path) -> Path:
    """Write a state_dict of many small tensors."""
    import safetensors.torch
    import torch

    state_dict = {f"layers.{at // 10}.block{at % 10}.weight": torch.zeros(4, 4) for at in range(LARGE_TENSORS)}
    if file.suffix == ".safetensors":
        safetensors.torch.save_file(state_dict, file)
    else:
        buffer = io.BytesIO()
        torch.save(state_dict, buffer)
        file.write_bytes(buffer.getvalue())
    return file


def write_shards(folder: Path) -> Iterator[Path]:
    """Write safetensors files whose tensors are a hole: each takes a block of the disk."""
    folder.mkdir()
    size = SHARD_BYTES // SHARD_TENSORS // 2 * 2
    for number in range(SHARDS):
        header = json.dumps(
            {
                f"model.layers.{number}.part{at}.weight": {
                    "dtype": "BF16", "shape": [size // 2], "data_offsets": [size * at, size * (at + 1)]
                }
                for at in range(SHARD_TENSORS)
            }
        ).encode()  # fmt: skip
        file = folder / f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        with file.open("wb") as shard:
            shard.write(struct.pack("<Q", len(header)) + header)
            shard.truncate(8 + len(header) + size * SHARD_TENSORS)
        yield file


if __name__ == "__main__":
    main()
