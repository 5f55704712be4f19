from datetime import UTC, datetime

import pytest
from actors import ADA, EVERYTHING
from sqlalchemy import event

from storage.metadata.catalog import Catalog
from storage.metadata.records import ModelQuery

MODEL = ("vision", "resnet50")


@pytest.fixture
def statements(catalog):
    """Return a function that does something and returns the statements and parameters it sent, in order."""
    sent = []
    event.listen(catalog.database.engine, "before_cursor_execute", lambda *args: sent.append((args[2], args[3])))

    def collect(action, *arguments, **options):
        sent.clear()
        action(*arguments, **options)
        return [(statement, values) for statement, values in sent if not statement.startswith("BEGIN")]

    return collect


def test_the_number_of_queries_does_not_grow_with_the_page(catalog, push, statements):
    for model in ("a", "b", "c", "d"):
        for _ in range(3):
            push(f"vision/{model}", metrics={"top1": 1.0, "loss": 2.0}, tags={"a": "1"}, aliases=[model])
    for limit in (1, 3):
        assert len(statements(catalog.list_models, EVERYTHING, ModelQuery(), None, limit)) == 3
        assert len(statements(catalog.list_versions, "vision", "a", limit=limit)) == 8
    assert len(statements(catalog.list_versions, "vision", "a", sort="metrics.top1", limit=3)) == 9


@pytest.mark.parametrize("selector", ["1", "2", "latest", "prod"])
def test_getting_a_version_takes_the_same_number_of_queries_whatever_it_holds(catalog, push, statements, selector):
    push(files={f"{n}.pt": b"%d" % n for n in range(20)}, metrics={"a": 1.0, "b": 2.0})
    push(aliases=["prod"])
    assert len(statements(catalog.get_version, *MODEL, selector)) == 9
    assert len(statements(catalog.get_version, *MODEL, selector)) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("sort", ["number", "-number", "created", "metrics.top1", "-metrics.top1"])
def test_no_page_of_versions_walks_a_whole_table(catalog, push, statements, sort):
    for value in range(3):
        push(metrics={"top1": float(value)}, tags={"data": "x"})
    cursor = catalog.list_versions(*MODEL, sort=sort, limit=1).cursor
    sent = statements(catalog.list_versions, *MODEL, sort=sort, limit=1, cursor=cursor, tags={"data": "x"})
    assert [step for step in plan(catalog, sent) if step.startswith("SCAN")] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_publishing_reading_and_collecting_walk_no_whole_table(catalog, push, prepare, statements):
    push(aliases=["prod"])
    new = prepare(files={"model.pt": b"other weights"}, base_number=(*MODEL, 1), idempotency=("ada", "key"))
    sent = statements(catalog.publish, new)
    for selector in (new.artifacts[0].info.sha256, "1", "latest", "prod", "prod"):
        sent += statements(catalog.get_version, *MODEL, selector)
    sent += statements(catalog.get_artifact, *MODEL, "latest", "model.pt")
    sent += statements(catalog.get_manifests, *MODEL, "prod")
    sent += statements(catalog.delete_version, *MODEL, 2, ADA)
    sent += statements(catalog.purge_version, *MODEL, 2, ADA, "room")
    assert len(sent) > 40
    # What an INSERT adds comes from a row of constants, and what is counted from a subquery, whose own steps are told.
    derived = {"SCAN CONSTANT ROW", "SCAN (subquery-1)", "SCAN anon_1"}
    assert [step for step in plan(catalog, sent) if step.startswith("SCAN") and step not in derived] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_forgetting_what_has_passed_reads_what_has_passed_alone(catalog, statements):
    sent = statements(catalog.forget_passed_tokens, datetime.now(UTC), 10)
    assert plan(catalog, sent) == [
        "SEARCH tokens USING INDEX ix_tokens_kind_expires_at (kind=? AND expires_at<?)",
    ]


def plan(catalog: Catalog, sent):
    """Return the steps in which SQLite would run the statements."""

    def explain(session):
        run = session.connection().exec_driver_sql
        each = [(text, values[0] if isinstance(values, list) else values) for text, values in sent]
        return [row.detail for text, values in each for row in run(f"EXPLAIN QUERY PLAN {text}", values)]

    return catalog.database.read(explain)
