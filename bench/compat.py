"""Processor time of a compatibility report: the first call on architectures that nothing was computed for yet.

Run: make bench-check
"""

import statistics
import time
from collections.abc import Iterable

from speed import say_speed

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.errors import AmbiguousPrefixError
from registry.tensor_spec import TensorSpec

ROUNDS = 9
LEAVES = (
    ("conv1.weight", (64, 32, 3, 3)),
    ("bn1.weight", (64,)),
    ("bn1.bias", (64,)),
    ("bn1.running_mean", (64,)),
    ("bn1.running_var", (64,)),
    ("conv2.weight", (32, 64, 3, 3)),
    ("bn2.weight", (32,)),
    ("bn2.bias", (32,)),
    ("bn2.running_mean", (32,)),
    ("bn2.running_var", (32,)),
)


def network(tensors: int, prefix: str = "", mark: str = "") -> list[TensorSpec]:
    """Return the tensors of a convolutional network of blocks of ten; `mark` makes every name another."""
    return [
        TensorSpec(f"{prefix}layer{mark}{at // 100}.{at % 100}.{mark}{leaf}{mark}", shape, "float32")
        for at in range(tensors // len(LEAVES))
        for leaf, shape in LEAVES
    ]


def cases(tensors: int) -> Iterable[tuple[str, list[TensorSpec], list[TensorSpec]]]:
    """Yield what is compared: a name, the source, the target."""
    half = tensors // 2
    yield "same", network(tensors), network(tensors)
    yield "DataParallel", network(tensors, "module."), network(tensors)
    yield "Lightning", network(tensors, "model."), network(tensors)
    yield "nested as a backbone", network(tensors), network(tensors, "backbone.body.")
    yield "ambiguous twins", network(half, "a.") + network(half, "b."), network(half)
    yield "deeper source", network(tensors), network(tensors * 4 // 5)
    yield "another family", network(tensors, mark="x"), network(tensors)


def measure(source: list[TensorSpec], target: list[TensorSpec]) -> tuple[str, float]:
    """Return the verdict and the median time of a first call in milliseconds."""
    times: list[float] = []
    verdict = ""
    for _ in range(ROUNDS):
        have, want = Architecture(source), Architecture(target)
        start = time.process_time()
        try:
            verdict = compare(have, want).verdict
        except AmbiguousPrefixError:
            verdict = "ambiguous"
        times.append((time.process_time() - start) * 1e3)
    return verdict, statistics.median(times)


def main() -> None:
    """Print a line a case, after what tells how fast this machine is."""
    say_speed()
    for tensors in (1_000, 10_000):
        for name, source, target in cases(tensors):
            verdict, milliseconds = measure(source, target)
            print(f"{tensors:>6,} tensors  {name:<22} {verdict:<13} {milliseconds:7.1f} ms")


if __name__ == "__main__":
    main()
