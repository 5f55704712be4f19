import zlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from registry.digest import blake3_digest
from registry.errors import (
    IdempotencyKeyReusedError,
    InternalError,
    ModelNotFoundError,
    UnavailableError,
    VersionNotFoundError,
)
from storage.metadata.tables import (
    DoomedRow,
    ManifestRow,
    ModelRow,
    ObjectRow,
    StorageRow,
    VersionRow,
    WriteIntentRow,
)

MODEL = ("vision", "resnet50")
SOON = datetime.now(UTC) + timedelta(hours=1)


def test_what_was_published_is_what_is_got(catalog, prepare):
    new = prepare(
        files={"model.pt": b"weights", "README.md": b"read me"},
        description="d",
        metrics={"top1": 0.5},
        tags={"data": "x"},
        builder={"callable": "timm:create_model", "arguments": {"model_name": "resnet18"}},
        wrappers=["DDP"],
        aliases=["prod", "best"],
        kind="module",
        trust="code",
        notices=("a link was skipped",),
    )
    version = catalog.publish(new)
    assert catalog.get_version(*MODEL, "1") == version
    assert version.artifacts == [artifact.info for artifact in new.artifacts]
    assert (version.number, version.kind, version.trust, version.size_bytes) == (1, "module", "code", 14)
    assert (version.builder, version.wrappers) == (new.metadata.builder, ["DDP"])
    assert (version.weights, version.notices) == (["model.pt"], ["a link was skipped"])
    assert version.aliases == ["best", "prod"]
    assert (version.annotations.metrics, version.annotations.tags) == ({"top1": 0.5}, {"data": "x"})
    assert (version.created_by, version.annotations.updated_by) == ("ada", "ada")
    model = catalog.get_model(*MODEL)
    assert (model.latest, model.version_count, model.created_by) == (1, 1, "ada")


def test_the_same_content_again_is_one_object_and_a_new_version(catalog, push, prepare, rows):
    push()
    again = prepare()
    catalog.publish(again)
    assert (rows(VersionRow), rows(ObjectRow), rows(ManifestRow)) == (2, 1, 1)
    assert catalog.list_doomed(datetime.now(UTC), 10) == [again.artifacts[0].location]
    assert rows(WriteIntentRow) == 0


def test_equal_files_of_one_version_are_one_object(catalog, prepare, rows):
    new = prepare(files={"a.pt": b"same", "b.pt": b"same"})
    catalog.publish(new)
    assert rows(ObjectRow) == 1
    extents = {catalog.get_artifact(*MODEL, "1", path).extents for path in ("a.pt", "b.pt")}
    assert [extent.location for [extent] in extents] == [new.artifacts[0].location]
    assert catalog.list_doomed(datetime.now(UTC), 10) == [new.artifacts[1].location]


def test_teams_never_share_objects(push, rows):
    push("vision/resnet50")
    push("audio/resnet50")
    assert rows(ObjectRow) == 2


def test_a_storage_has_one_row_per_team_however_often_it_is_stored(push, rows):
    push(files={"model.pt": b"backbone" + b"head-one"})
    push(files={"model.pt": b"backbone" + b"head-two"})
    assert rows(StorageRow) == 3
    push("audio/resnet50", files={"model.pt": b"backbone" + b"head-two"})
    assert rows(StorageRow) == 5


def test_more_storages_than_one_statement_takes_are_all_kept(catalog, push):
    data = b"".join(number.to_bytes(8, "big") for number in range(2500))
    push(files={"model.pt": data})
    found = catalog.database.read(lambda session: session.scalars(select(StorageRow)).all())
    assert {(row.digest, row.offset, row.length) for row in found} == {
        (blake3_digest(data[at : at + 8]), at, 8) for at in range(0, len(data), 8)
    }


def test_manifests_are_kept_compressed(catalog, prepare):
    new = prepare()
    catalog.publish(new)
    row = catalog.database.read(lambda session: session.scalars(select(ManifestRow)).one())
    assert zlib.decompress(row.compressed) == new.artifacts[0].manifest


def test_a_base_is_a_reference_and_a_row(catalog, push):
    push("audio/base")
    version = push(base="audio/base:1", base_number=("audio", "base", 1))
    assert version.base == "audio/base:1"
    base_ids = catalog.database.read(lambda session: session.scalars(select(VersionRow.base_id)).all())
    assert sorted(base_ids, key=str) == [1, None]


@pytest.mark.parametrize("base", [("vision", "base", 9), ("vision", "other", 1)])
def test_an_unknown_base_publishes_nothing(catalog, push, prepare, rows, base):
    push("vision/base", files={"model.pt": b"base"})
    new = prepare(base_number=base)
    with pytest.raises((VersionNotFoundError, ModelNotFoundError), match=r"vision/(base|other)"):
        catalog.publish(new)
    assert (rows(VersionRow), rows(ModelRow), rows(ObjectRow), rows(WriteIntentRow)) == (1, 1, 1, 1)
    with pytest.raises(ModelNotFoundError):
        catalog.get_model(*MODEL)


def test_bytes_whose_write_was_given_up_are_never_named(catalog, prepare, rows):
    new = prepare(files={"a.pt": b"a", "b.pt": b"b"})
    catalog.cancel_write(new.artifacts[1].location)
    with pytest.raises(UnavailableError, match="Push again"):
        catalog.publish(new)
    assert (rows(VersionRow), rows(ObjectRow), rows(DoomedRow)) == (0, 0, 1)


def test_a_version_cannot_be_published_twice_from_the_same_writes(catalog, prepare):
    new = prepare()
    catalog.publish(new)
    with pytest.raises(UnavailableError):
        catalog.publish(new)


def test_paths_that_differ_in_case_only_are_refused_by_the_database(catalog, prepare, rows):
    with pytest.raises(InternalError):
        catalog.publish(prepare(files={"Model.pt": b"a", "model.pt": b"b"}))
    assert rows(VersionRow) == 0


def test_the_longest_paths_are_kept_apart(catalog, push):
    paths = ["語" * 999 + end for end in "ab"]
    push(files=dict.fromkeys(paths, b"weights"))
    assert [artifact.path for artifact in catalog.get_version(*MODEL, "1").artifacts] == paths


def test_a_key_that_finished_while_the_push_ran_on_leads_to_one_version(catalog, prepare, rows):
    catalog.begin_push("ada", *MODEL, "key", SOON)
    first = catalog.publish(prepare(idempotency=("ada", "key")))
    late = prepare(idempotency=("ada", "key"))
    assert catalog.publish(late) == first
    assert rows(VersionRow) == 1
    assert late.artifacts[0].location in catalog.list_doomed(datetime.now(UTC), 10)


def test_a_key_that_finished_with_other_content_refuses_the_push(catalog, prepare, rows):
    catalog.publish(prepare(idempotency=("ada", "key")))
    with pytest.raises(IdempotencyKeyReusedError):
        catalog.publish(prepare(idempotency=("ada", "key"), fingerprint="another"))
    assert rows(VersionRow) == 1


def test_64_concurrent_publishes_get_64_contiguous_numbers(catalog, prepare, at_once):
    new = [prepare(files={"model.pt": b"weights %d" % n}, aliases=["newest"]) for n in range(64)]
    results = at_once(64, lambda n: catalog.publish(new[n]))
    assert [result for result in results if isinstance(result, Exception)] == []
    assert sorted(result.number for result in results) == list(range(1, 65))
    model = catalog.get_model(*MODEL)
    assert (model.latest, model.version_count) == (64, 64)
    assert catalog.get_alias(*MODEL, "newest").version == 64


def test_concurrent_publishes_of_the_same_files_make_one_object_each_and_doom_the_rest(catalog, prepare, at_once, rows):
    files = {"b.pt": b"second file", "a.pt": b"first file", "c.pt": b"third file"}
    new = [prepare(files=dict(sorted(files.items(), reverse=n % 2 == 0))) for n in range(16)]
    results = at_once(16, lambda n: catalog.publish(new[n]))
    assert [result for result in results if isinstance(result, Exception)] == []
    assert (rows(ObjectRow), rows(DoomedRow), rows(WriteIntentRow)) == (3, 45, 0)
    kept = {stored.location for stored in catalog.iter_objects()}
    assert kept.isdisjoint(catalog.list_doomed(datetime.now(UTC), 100))


def test_publishes_to_many_models_at_once_do_not_disturb_each_other(catalog, prepare, at_once):
    new = [prepare(f"team{n % 3}/model{n % 5}", base=None) for n in range(30)]
    results = at_once(30, lambda n: catalog.publish(new[n]))
    assert [result for result in results if isinstance(result, Exception)] == []
    assert {result.number for result in results} == {1, 2}


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_publishes_of_the_same_files_in_different_orders_never_deadlock(catalog, prepare, at_once):
    files = {f"{n}.pt": b"file %d" % n for n in range(12)}
    new = [prepare(f"vision/m{n}", files=dict(sorted(files.items(), reverse=n % 2 == 0))) for n in range(8)]
    at_once(8, lambda n: catalog.publish(new[n]))
    count = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert catalog.database.read(lambda session: session.scalar(count)) == 0


def test_what_a_version_says_of_its_module_comes_back(catalog, push):
    said = {
        "builder": {"callable": "timm:create_model", "arguments": {"model_name": "resnet18"}},
        "pretrained_cfg": {"classifier": ["fc"], "input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5]},
        "recipe": {"base": "vision/net:1", "frozen": ["layer1.*"], "rows": {"embed.weight": [[0, 10]]}},
        "origin": {"source": "timm:resnet18.a1_in1k", "license": "apache-2.0"},
    }
    push(**said)
    found = catalog.get_version(*MODEL, "1")
    assert found.model_dump(mode="json", include=set(said), exclude_defaults=True) == said
