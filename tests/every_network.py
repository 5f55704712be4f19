"""Parametrisation over all networks of a library: a few of them at once, all of them when somebody asks."""

from collections.abc import Sequence

import pytest

STEP = 5


def each_network(names: Sequence[str]) -> list[object]:
    """Return the names as slow parameters, of which all but every fifth are left to `make test-exhaustive`."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if at % STEP == 0 else [pytest.mark.slow, pytest.mark.exhaustive])
        for at, name in enumerate(names)
    ]
