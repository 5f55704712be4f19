import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import torch
from behind import in_pairs
from embedded import make_weights
from migrated import migrated_sqlite

from registry.errors import BlobNotFoundError, ConflictError
from registry.schema import AnnotationsUpdate, ModelUpdate, VersionCreate
from storage.access import Caller
from storage.aliases import list_aliases, move_alias
from storage.draft import begin
from storage.fsck import fsck
from storage.garbage import collect
from storage.models import get_model, update_model
from storage.publish import publish
from storage.read import get_artifact, get_manifest, get_version, iter_range
from storage.rebuild import rebuild
from storage.recording import write_due_records
from storage.versions import annotate, delete_version, list_versions, purge_version, restore_version

CALLER = Caller("tester", is_administrator=True)
ADA = Caller("ada", is_administrator=True)


@pytest.fixture
def stores(open_installation):
    return open_installation("one")


def record(stores, number=1):
    write_due_records(stores)
    return json.loads(stores.blobs.read_record(f"vision/net/{number}.json"))


def test_a_record_follows_all_that_changes_of_its_version(stores, push):
    push(stores, metrics={"top1": 0.5}, aliases=["prod"])
    first = record(stores)
    assert first["registry_id"] == stores.catalog.registry_id()
    assert (first["aliases"][0]["name"], first["version"]["annotations"]["metrics"]) == ("prod", {"top1": 0.5})
    [extent] = first["extents"]["model.pt"]
    assert (extent["sha256"], extent["offset"]) == (first["version"]["artifacts"][0]["sha256"], 0)
    annotate(stores, ADA, "vision", "net", "1", AnnotationsUpdate(description="better"), None)
    push(stores, seed=1)
    move_alias(stores, ADA, "vision", "net", "prod", 2, expected="any", reason="")
    assert record(stores)["version"]["annotations"]["updated_by"] == "ada"
    assert (record(stores)["aliases"], record(stores, 2)["aliases"][0]["updated_by"]) == ([], "ada")
    delete_version(stores, ADA, "vision", "net", "1")
    assert record(stores)["deleted_by"] == "ada"
    restore_version(stores, ADA, "vision", "net", 1)
    assert record(stores)["deleted_by"] is None
    purge_version(stores, ADA, "vision", "net", 1, "leaked", is_live=True)
    with pytest.raises(BlobNotFoundError):
        record(stores)


def test_records_wait_while_the_store_takes_none_and_no_push_fails(stores, push, tmp_path):
    (tmp_path / "one" / "blobs" / "records").write_text("in the way")
    assert push(stores).number == 1
    assert write_due_records(stores) == 0
    (tmp_path / "one" / "blobs" / "records").unlink()
    stores.catalog.write_record_again(1, 1)
    assert stores.catalog.count_due_records() == 2


class Interrupted:
    """A blob store during whose first write of a record something else happens: nobody can time that from outside."""

    def __init__(self, blobs, happens):
        self.blobs, self.happens = blobs, happens

    def __getattr__(self, name):
        return getattr(self.blobs, name)

    def write_record(self, name, data):
        happens, self.happens = self.happens, lambda: None
        happens()
        self.blobs.write_record(name, data)


def test_what_changes_while_its_record_is_written_is_written_again(stores, push):
    push(stores)

    def change():
        annotate(stores, ADA, "vision", "net", "1", AnnotationsUpdate(description="meanwhile"), None)
        assert write_due_records(stores) == 0  # somebody is at it

    write_due_records(replace(stores, blobs=Interrupted(stores.blobs, change)))
    assert record(stores)["version"]["annotations"]["description"] == "meanwhile"


def push_files(stores, model, files, **metadata):
    draft = begin(stores, CALLER, "vision", model)
    for path, content in files.items():
        incoming = draft.open_file(path)
        incoming.write(content)
        draft.close_file(incoming)
    return publish(draft, VersionCreate.model_validate(metadata))


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def fill(stores):
    """Push, change and delete as people do."""
    push_files(stores, "net", {"model.pt": make_weights()}, metrics={"top1": 0.5}, tags={"data": "digits"})
    both = {"model.pt": make_weights(1), "ema.pt": make_weights(2), "README.md": b"# what it is"}
    push_files(stores, "net", both, primary="model.pt", base="vision/net:1", aliases=["prod", "best"])
    push_files(stores, "whole", {"module.pt": saved(torch.nn.Linear(3, 2)), "notes.txt": b"as code"})
    push_files(stores, "net", {"model.pt": make_weights()}, description="the same bytes again")
    push_files(stores, "net", {"model.pt": make_weights(3)})
    annotate(stores, ADA, "vision", "net", "1", AnnotationsUpdate(deprecated="use 2", metrics={"top5": 0.9}), None)
    move_alias(stores, ADA, "vision", "net", "best", 3, expected="any", reason="better")
    delete_version(stores, ADA, "vision", "net", "4")
    push_files(stores, "net", {"model.pt": make_weights(4)})
    purge_version(stores, ADA, "vision", "net", 5, "leaked", is_live=True)
    update_model(stores, ADA, "vision", "net", ModelUpdate(description="a net", tags={"use": "tests"}))
    collect(stores, CALLER, now=datetime.now(UTC) + timedelta(days=1))


def told(stores):
    """Return all that can be seen of the versions, and their bytes."""
    found = {}
    for model in ("net", "whole"):
        page = list_versions(
            stores, CALLER, "vision", model, sort="number", cursor=None, limit=99, include_deleted=True, tags={}
        )
        kept = [each for each in page.items if each.purged_at is None]
        found[model] = kept, list_aliases(stores, CALLER, "vision", model)
        for each in kept:
            if each.deleted_at is None:
                for info in each.artifacts:
                    stored = get_artifact(stores, CALLER, "vision", model, str(each.number), info.path)
                    data = b"".join(iter_range(stores.blobs, stored.extents, 0, info.size_bytes))
                    found[model, each.number, info.path] = data, stored.extents
                    if info.manifest:
                        found[model, each.number, info.path, "manifest"] = get_manifest(
                            stores, CALLER, "vision", model, str(each.number), info.path
                        )
    found["model"] = get_model(stores, CALLER, "vision", "net").model_dump(exclude={"updated_at"})
    return found


@in_pairs
def test_a_lost_database_is_rebuilt_from_the_records(behind, database, tmp_path):
    with behind.stores(migrated_sqlite(tmp_path / "lost.sqlite")) as old:
        fill(old)
        before, registry_id = told(old), old.catalog.registry_id()
    with behind.stores(database, adopts_registry=True) as new:
        assert new.catalog.registry_id() == registry_id
        assert [(each.problem, each.differences) for each in rebuild(new, CALLER)] == [(None, ())] * 5
        assert told(new) == before
        write_due_records(new)
        assert list(fsck(new, CALLER, reads_bytes=True)) == []
        assert get_version(new, CALLER, "vision", "net", "@prod"[1:]).base == "vision/net:1"
        assert push_files(new, "net", {"model.pt": make_weights(5)}).number == 6
    with pytest.raises(ConflictError, match="empty database"), behind.stores(database, adopts_registry=True):
        pass


def test_what_the_bytes_do_not_bear_out_is_left_out_and_told(behind, tmp_path):
    with behind.stores(migrated_sqlite(tmp_path / "old.sqlite")) as old:
        fill(old)
        first = get_artifact(old, CALLER, "vision", "net", "2", "ema.pt").extents[0].location
    lies = json.loads(behind.read("records/vision/whole/1.json"))
    lies["version"]["trust"] = lies["version"]["artifacts"][0]["trust"] = "tensors"
    behind.put("records/vision/whole/1.json", json.dumps(lies).encode())
    behind.put("records/vision/net/3.json", behind.read("records/vision/net/1.json"))
    behind.put("records/vision/net/4.json", b"no record")
    data = behind.read(f"objects/{first}")
    behind.put(f"objects/{first}", data[:-1] + b"?")
    with behind.stores(f"sqlite:///{tmp_path / 'new.sqlite'}", adopts_registry=True) as new:
        found = {each.name: (each.problem or "", each.differences) for each in rebuild(new, CALLER)}
        assert "others than were recorded" in found["vision/net/2.json"][0]
        assert "another version" in found["vision/net/3.json"][0]
        assert "no record" in found["vision/net/4.json"][0]
        assert "its trust is code, not tensors" in found["vision/whole/1.json"][1]
        assert get_version(new, CALLER, "vision", "whole", "1").trust == "code"
        assert get_model(new, CALLER, "vision", "net").version_count == 1
