"""No sequence of what people do loses a byte that a version names, on every backend and both databases."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from registry_life import Life

QUICK = settings(
    max_examples=4, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@pytest.fixture(params=["sqlite", "postgres"])
def machine(request, behind, tmp_path):
    """The machine over an installation of its own."""
    sqlite = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    with behind.stores(url) as stores:
        yield type("LifeHere", (Life,), {"stores": stores, "behind": behind})


def test_no_life_of_a_registry_loses_a_byte(machine):
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.slow
def test_no_long_life_of_a_registry_loses_a_byte(machine):
    run_state_machine_as_test(machine, settings=settings(QUICK, max_examples=12, stateful_step_count=30))
