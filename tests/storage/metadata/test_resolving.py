"""What is told of a version a second time, by one statement, is what a catalog tells that was never asked before."""

from datetime import UTC, datetime

import pytest
from actors import ADA
from sqlalchemy import select

from registry.errors import NotFoundError
from registry.schema import AnnotationsUpdate
from storage.metadata.catalog import Catalog
from storage.metadata.resolving import Resolved
from storage.metadata.tables import ObjectRow

MODEL = ("vision", "resnet50")
SELECTORS = ("1", "v2", "4", "latest", "prod", "best")


@pytest.fixture
def tell(catalog, database_url):
    """Return a function that tells what each selector means; a catalog that was never asked must say the same."""

    def ask(of, selector, options):
        try:
            return of.get_version(*MODEL, selector, **options)
        except NotFoundError as error:
            return error.code, error.detail

    def tell():
        told = {}
        fresh = Catalog.open(database_url)
        try:
            for selector in SELECTORS:
                for everything in (False, True):
                    options = {"include_deleted": everything, "include_quarantined": everything}
                    told[selector, everything] = ask(catalog, selector, options)
                    assert told[selector, everything] == ask(fresh, selector, options), selector
        finally:
            fresh.close()
        return told

    return tell


def damage(catalog, when):
    """Mark the first object, or say that it is whole again."""
    first = select(ObjectRow.id, ObjectRow.location).order_by(ObjectRow.id).limit(1)
    number, location = catalog.database.read(lambda session: session.execute(first).one())
    assert catalog.mark_damaged(number, location, when)


def test_every_change_of_a_version_is_told_at_once(catalog, push, tell):
    push(aliases=["prod"], metrics={"top1": 0.5})
    push(files={"model.pt": b"other weights"})
    before = tell()
    changes = {
        "annotated": lambda: catalog.annotate(*MODEL, 1, AnnotationsUpdate(metrics={"top1": 0.6}), None, ADA),
        "deprecated": lambda: catalog.annotate(*MODEL, 2, AnnotationsUpdate(deprecated="worse"), None, ADA),
        "another alias": lambda: catalog.move_alias(*MODEL, "best", 1, expected="absent", by=ADA),
        "damaged": lambda: damage(catalog, datetime.now(UTC)),
        "whole again": lambda: damage(catalog, None),
        "moved": lambda: catalog.move_alias(*MODEL, "prod", 2, expected="any", by=ADA),
        "removed": lambda: catalog.remove_alias(*MODEL, "best", by=ADA),
        "deleted": lambda: catalog.delete_version(*MODEL, 1, ADA),
        "restored": lambda: catalog.restore_version(*MODEL, 1, ADA),
        "deleted again": lambda: catalog.delete_version(*MODEL, 1, ADA),
        "purged": lambda: catalog.purge_version(*MODEL, 1, ADA, "room"),
        "pushed": lambda: push(files={"model.pt": b"third weights"}),
        "in quarantine": lambda: push(files={"model.pt": b"harm"}, trust="unsafe"),
    }
    for what, change in changes.items():
        change()
        told = tell()
        assert told != before, what
        before = told


def test_what_is_large_makes_room_for_what_is_asked_for(catalog, push, monkeypatch):
    told = push(aliases=["prod"])
    monkeypatch.setattr("storage.metadata.resolving.TOLD_BYTES", 3 * len(told.model_dump_json()) // 2)
    catalog._resolved = Resolved()
    push(files={"model.pt": b"other weights"})
    for _ in range(3):
        for number in ("1", "2"):
            assert catalog.get_version(*MODEL, number).number == int(number)
    assert len(catalog._resolved._told._kept) == 1
