"""How much of the reader the mutations reach, by branch."""

import io
from pathlib import Path
from random import Random


def measure(files: list[tuple[str, bytes]], seed: int, executions: int) -> str:
    """Return coverage.py's table for `registry/formats` over the corpus and so many changed files of it."""
    import coverage

    from fuzzing.samples import take_apart
    from registry import formats
    from registry.errors import WeighbridgeError

    folder = Path(formats.__file__).parent
    measured = coverage.Coverage(branch=True, include=[f"{folder}/*"], data_file=None)
    for name in ("confinement", "worker", "wire", "sharded"):
        measured.set_option("run:omit", [f"{folder}/{name}.py", *(measured.get_option("run:omit") or [])])
    samples = [take_apart(data) for _, data in files]
    rng = Random(seed)
    measured.start()
    from registry.formats.reader import read
    from registry.formats.source import BytesSource

    inputs = [data for _, data in files] + [rng.choice(samples).mutated(rng) for _ in range(executions)]
    for data in inputs:
        try:
            read(BytesSource(data))
        except WeighbridgeError:
            continue
    measured.stop()
    table = io.StringIO()
    measured.report(file=table, show_missing=False, skip_empty=True)
    return table.getvalue()
