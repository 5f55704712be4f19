import pytest
from actors import ADA, BOB, EVE

from registry.errors import InvalidMetadataError, PreconditionFailedError, VersionNotFoundError
from registry.schema import AnnotationsUpdate
from storage.metadata.records import Actor

MODEL = ("vision", "resnet50")


def test_a_change_keeps_what_it_leaves_out_and_drops_what_it_sets_to_null(catalog, push):
    push(description="d", metrics={"top1": 0.5, "loss": 2.0}, tags={"a": "1", "b": "2"})
    update = AnnotationsUpdate(metrics={"top1": 0.6, "loss": None}, tags={"a": None, "c": "3"})
    annotations = catalog.annotate(*MODEL, 1, update, 1, BOB).annotations
    assert (annotations.description, annotations.revision, annotations.updated_by) == ("d", 2, "bob")
    assert (annotations.metrics, annotations.tags) == ({"top1": 0.6}, {"b": "2", "c": "3"})
    assert catalog.get_version(*MODEL, "1").annotations == annotations
    assert catalog.list_versions(*MODEL, tags={"a": "1"}).items == []


def test_annotating_never_changes_content(catalog, push):
    before = push()
    after = catalog.annotate(*MODEL, 1, AnnotationsUpdate(description="new", metrics={"m": 1.0}), None, BOB)
    assert after.model_copy(update={"annotations": before.annotations}) == before


def test_a_change_of_something_else_than_what_was_seen_fails_and_names_who_and_when(catalog, push):
    push()
    changed = catalog.annotate(*MODEL, 1, AnnotationsUpdate(description="bob's"), 1, BOB).annotations
    with pytest.raises(PreconditionFailedError, match="changed by bob at") as caught:
        catalog.annotate(*MODEL, 1, AnnotationsUpdate(description="ada's"), 1, ADA)
    assert caught.value.extra["revision"] == 2
    assert caught.value.extra["updated_at"] == changed.updated_at.isoformat()
    assert catalog.get_version(*MODEL, "1").annotations.description == "bob's"


def test_every_change_is_recorded_with_who_and_what(catalog, push):
    push(description="pushed", by=ADA)
    catalog.annotate(*MODEL, 1, AnnotationsUpdate(metrics={"top1": 0.6}), None, BOB)
    catalog.annotate(*MODEL, 1, AnnotationsUpdate(deprecated="old", tags={"a": None}), None, EVE)
    newest, middle, oldest = catalog.annotation_history(*MODEL, 1)
    assert (newest.revision, newest.changed_by, newest.changes) == (
        3,
        "eve",
        {"deprecated": "old", "tags": {"a": None}},
    )
    assert (middle.changed_by, middle.changes) == ("bob", {"metrics": {"top1": 0.6}})
    assert (oldest.revision, oldest.changed_by, oldest.changes["description"]) == (1, "ada", "pushed")
    assert oldest.changed_at <= middle.changed_at <= newest.changed_at


def test_a_version_never_gets_more_metrics_or_tags_than_the_limit(catalog, push):
    push(metrics={f"m{n}": 0.0 for n in range(1000)})
    with pytest.raises(InvalidMetadataError, match="1001"):
        catalog.annotate(*MODEL, 1, AnnotationsUpdate(metrics={"more": 1.0}), None, ADA)
    assert catalog.get_version(*MODEL, "1").annotations.revision == 1


def test_a_deleted_version_is_not_annotated(catalog, push):
    push()
    catalog.delete_version(*MODEL, 1, ADA)
    with pytest.raises(VersionNotFoundError):
        catalog.annotate(*MODEL, 1, AnnotationsUpdate(description="x"), None, ADA)


def test_of_many_changes_with_the_same_revision_exactly_one_wins(catalog, push, at_once):
    push()
    results = at_once(
        8, lambda n: catalog.annotate(*MODEL, 1, AnnotationsUpdate(metrics={f"m{n}": 1.0}), 1, Actor(f"user{n}"))
    )
    winners = [result for result in results if not isinstance(result, Exception)]
    assert len(winners) == 1
    assert {type(result) for result in results if isinstance(result, Exception)} == {PreconditionFailedError}
    assert catalog.get_version(*MODEL, "1") == winners[0]
