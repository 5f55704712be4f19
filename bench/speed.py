"""How fast the machine is: what the figures of the other benches are compared by."""

import time


def say_speed() -> None:
    """Print how long summing five million integers takes, in seconds of processor time."""
    start = time.process_time()
    sum(range(5_000_000))
    print(f"Summing 5 million integers took {time.process_time() - start:.3f} s.")
