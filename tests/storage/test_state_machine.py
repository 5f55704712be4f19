"""No sequence of what people do loses a byte that a version names, on every backend and both databases."""

from collections.abc import Iterator

import pytest
from behind import BACKENDS, in_bucket, in_folder
from delta_life import DeltaLife
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from migrated import migrated_sqlite
from planned_life import PlannedLife

from storage import repack
from storage.uploads import reuse

QUICK = settings(
    max_examples=3, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
PAIRS = [("folder", "sqlite"), ("folder", "postgres"), ("seaweedfs", "postgres"), ("gateway", "sqlite")]
LONG = [
    ("folder", "sqlite"),
    *(
        pytest.param((backend, database), marks=pytest.mark.exhaustive)
        for backend in BACKENDS
        for database in ("sqlite", "postgres")
        if (backend, database) != ("folder", "sqlite")
    ),
]
SERVERS = {"seaweedfs": "seaweedfs", "gateway": "minio_gateway"}


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[type[PlannedLife]]:
    """The machine over an installation of its own, on a pair of backend and database."""
    backend, database = request.param
    folder = request.getfixturevalue("tmp_path")
    behind = (
        in_folder(folder / "blobs")
        if backend == "folder"
        else in_bucket(request.getfixturevalue(SERVERS[backend]), backend)
    )
    url = migrated_sqlite(folder / "catalog.sqlite")
    if database == "postgres":
        url = request.getfixturevalue("migrated_postgres")
    with behind.stores(url) as stores:
        yield type("LifeHere", (PlannedLife,), {"stores": stores, "behind": behind})


@pytest.mark.parametrize("machine", PAIRS, indirect=True, ids="-on-".join)
def test_no_life_of_a_registry_loses_a_byte(machine: type[PlannedLife]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.fixture
def delta_machine(machine: type[PlannedLife], monkeypatch: pytest.MonkeyPatch) -> type[DeltaLife]:
    """The machine with fine-tunes, of which small ones are worth a delta and being written anew, too."""
    monkeypatch.setattr(reuse, "MIN_SAVED_BYTES", 0)
    monkeypatch.setattr(repack, "DEAD_BYTES", 0)
    return type("DeltasHere", (DeltaLife,), {"stores": machine.stores, "behind": machine.behind})


@pytest.mark.parametrize("machine", PAIRS, indirect=True, ids="-on-".join)
def test_no_life_with_fine_tunes_loses_a_byte(delta_machine: type[DeltaLife]) -> None:
    run_state_machine_as_test(delta_machine, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("machine", LONG, indirect=True, ids="-on-".join)
def test_no_long_life_with_fine_tunes_loses_a_byte(delta_machine: type[DeltaLife]) -> None:
    run_state_machine_as_test(delta_machine, settings=settings(QUICK, max_examples=4, stateful_step_count=25))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("machine", LONG, indirect=True, ids="-on-".join)
def test_no_long_life_of_a_registry_loses_a_byte(machine: type[PlannedLife]) -> None:
    run_state_machine_as_test(machine, settings=settings(QUICK, max_examples=4, stateful_step_count=25))
