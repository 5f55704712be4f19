"""How much of the reader a campaign reaches, by branch: measured by coverage.py afterwards, in a process of its own."""

import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

_ELSEWHERE = ("confinement", "worker", "wire", "sharded", "source")
"""What surrounds the reader: the worker process, its report's journey, folders of shards, files."""


def measure(files: list[bytes], seed: int, executions: int) -> str:
    """Return coverage.py's table for `registry/formats` over these files, and so many more that are made of them."""
    import registry.formats

    folder = Path(registry.formats.__file__).parent
    omitted = ",".join(f"{folder}/{name}.py" for name in _ELSEWHERE)
    with tempfile.TemporaryDirectory() as scratch:
        coverage = [sys.executable, "-m", "coverage"]
        data = f"--data-file={scratch}/coverage"
        options = [data, "--branch", "--source=registry.formats", f"--omit={omitted}"]
        packed = Path(scratch) / "files"
        packed.write_bytes(pickle.dumps(files))
        run = [*coverage, "run", *options, "-m", "fuzzing.branches", str(seed), str(executions), str(packed)]
        subprocess.run(run, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        done = subprocess.run([*coverage, "report", data], check=True, capture_output=True, text=True)
    return done.stdout.replace(f"{folder}{os.sep}", "")


def main() -> None:
    """Read the files, and changed ones, and nothing else."""
    seed, executions, packed = sys.argv[1:4]
    warnings.simplefilter("ignore")
    from fuzzing.samples import take_apart
    from registry.errors import WeighbridgeError
    from registry.formats.reader import read
    from registry.formats.source import BytesSource

    files: list[bytes] = pickle.loads(Path(packed).read_bytes())
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
