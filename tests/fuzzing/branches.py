"""How much of the reader the corpus and its mutations reach, by branch: run by coverage.py in a process of its own."""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

_ELSEWHERE = ("confinement", "worker", "wire", "sharded", "source")
"""What surrounds the reader: the worker process, its report's journey, folders of shards, files."""


def measure(seed: int, executions: int, corpus: Path | None) -> str:
    """Return coverage.py's table for `registry/formats` over the corpus and so many changed files of it."""
    import registry.formats

    folder = Path(registry.formats.__file__).parent
    omitted = ",".join(f"{folder}/{name}.py" for name in _ELSEWHERE)
    with tempfile.TemporaryDirectory() as scratch:
        coverage = [sys.executable, "-m", "coverage"]
        data = f"--data-file={scratch}/coverage"
        options = [data, "--branch", f"--include={folder}/*", f"--omit={omitted}"]
        run = [*coverage, "run", *options, "-m", "fuzzing.branches", str(seed), str(executions), str(corpus or "")]
        subprocess.run(run, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        done = subprocess.run([*coverage, "report", data], check=True, capture_output=True, text=True)
    return done.stdout.replace(f"{folder}{os.sep}", "")


def main() -> None:
    """Read the corpus, and changed files of it, and nothing else."""
    seed, executions, corpus = sys.argv[1:4]
    warnings.simplefilter("ignore")
    from fuzzing.samples import take_apart
    from fuzzing.seeds import load_seeds
    from registry.errors import WeighbridgeError
    from registry.formats.reader import read
    from registry.formats.source import BytesSource

    files = [data for _, data in load_seeds(Path(corpus) if corpus else None)]
    samples = [take_apart(data) for data in files]
    rng = Random(int(seed))
    for number in range(len(files) + int(executions)):
        data = files[number] if number < len(files) else rng.choice(samples).mutated(rng)
        try:
            read(BytesSource(data))
        except WeighbridgeError:
            continue


if __name__ == "__main__":
    main()
