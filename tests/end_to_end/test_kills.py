"""The service and `gc`, killed at any moment: nothing is half there, nothing is lost, and the next one goes on."""

import hashlib
import json
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

import pytest
from behind import in_folder
from embedded import make_small_weights
from forked import forking, wait_until_healthy
from sqlalchemy import update
from support.service import free_port

from registry.schema import VersionCreate
from storage.access import Caller
from storage.blobs.base import new_location
from storage.draft import begin
from storage.fsck import fsck
from storage.garbage import collect
from storage.metadata.tables import DoomedRow, LeaseRow, VersionRow, WriteIntentRow
from storage.publish import publish
from storage.read import get_artifact, iter_range
from storage.versions import delete_version, list_versions, purge_version

CALLER = Caller("tester", is_administrator=True)
CONTENTS = [make_small_weights(seed) for seed in range(12)]
PUSHES = 4
"""In a round of garbage; all but one of them are deleted or purged."""
OFTEN = [pytest.param(50, marks=pytest.mark.exhaustive)]
KNOWN = {f"sha256:{hashlib.sha256(content).hexdigest()}" for content in CONTENTS}


@pytest.fixture
def forks(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    with forking(tmp_path, {**kept, "WEIGHBRIDGE_DATA": str(tmp_path / "data")}) as opened:
        yield opened


@pytest.fixture
def open_data(tmp_path):
    """Open the stores of the data folder, as a process that starts does."""
    (tmp_path / "data").mkdir()
    behind = in_folder(tmp_path / "data" / "blobs")
    return lambda: behind.stores(f"sqlite:///{tmp_path / 'data' / 'catalog.sqlite'}")


class Work:
    """People at a service, until it is gone: what they were told, and what they may have removed."""

    def __init__(self, url, seed):
        self.url, self.seed = url, seed
        self.pushed = {}
        self.perhaps_gone = set()
        self.failures = []

    def do(self, number):
        choice = random.Random(self.seed * 100 + number)
        try:
            while True:
                self.push(f"net{number}", choice.choice(CONTENTS))
                if choice.random() < 0.4:
                    self.purge(*choice.choice([key for key in self.pushed if key[0] == f"net{number}"]))
        except (OSError, HTTPException):
            return  # it was killed
        except Exception as error:  # noqa: BLE001 - the test looks at whatever it is
            self.failures.append(error)

    def push(self, model, content):
        answer = self.send("PUT", f"{model}/upload/model.pt", content)
        self.pushed[model, answer["number"]] = content

    def purge(self, model, number):
        if (model, number) in self.perhaps_gone:
            return
        self.perhaps_gone.add((model, number))
        body = json.dumps({"reason": "room", "now": True}).encode()
        self.send("POST", f"{model}/versions/{number}/purge", body, {"Content-Type": "application/json"})

    def send(self, method, path, body, headers={}):  # noqa: B006 - nobody changes it
        url = f"{self.url}/api/v1/models/vision/{path}"
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - our own service
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own service
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read()) from error


def see_that_nothing_is_lost(stores, pushed, perhaps_gone):
    """What was told to be stored is there, and what can be seen is whole."""
    assert list(fsck(stores, CALLER, reads_bytes=True)) == []
    for model in {model for model, _ in pushed}:
        page = list_versions(
            stores, CALLER, "vision", model, sort="number", cursor=None, limit=999, include_deleted=False, tags={}
        )
        live = {version.number: version for version in page.items}
        assert {number for named, number in pushed.keys() - perhaps_gone if named == model} <= live.keys()
        for number, version in live.items():
            [artifact] = version.artifacts
            assert artifact.sha256 in KNOWN
            if (model, number) in pushed:
                extents = get_artifact(stores, CALLER, "vision", model, str(number), "model.pt").extents
                assert b"".join(iter_range(stores.blobs, extents, 0, artifact.size_bytes)) == pushed[model, number]


def kill_services(forks, open_data, seed, count):
    choice = random.Random(seed)
    pushed, perhaps_gone = {}, set()
    for round_ in range(count):
        port = free_port()
        service = forks.start("serve", WEIGHBRIDGE_PORT=str(port))
        wait_until_healthy(f"http://127.0.0.1:{port}")
        work = Work(f"http://127.0.0.1:{port}", seed * 1000 + round_)
        threads = [threading.Thread(target=work.do, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(choice.uniform(0.0, 0.5))
        assert forks.kill(service) == -signal.SIGKILL
        for thread in threads:
            thread.join()
        assert work.failures == []
        pushed |= work.pushed
        perhaps_gone |= work.perhaps_gone
        with open_data() as stores:
            see_that_nothing_is_lost(stores, work.pushed, work.perhaps_gone)
    with open_data() as stores:
        see_that_nothing_is_lost(stores, pushed, perhaps_gone)
        stores.catalog.database.write(end_leases)  # of a service that was killed while it collected
        assert collect(stores, CALLER, now=datetime.now(UTC) + timedelta(days=1)).ran
        assert len(list(stores.blobs.iter_locations())) == len(list(stores.catalog.iter_objects()))
        assert list(fsck(stores, CALLER, reads_bytes=True)) == []


def end_leases(session):
    session.execute(update(LeaseRow).values(until=datetime.now(UTC) - timedelta(days=60)))


def make_garbage(stores, kept):
    """Push, delete and purge, so that a collection has all kinds of work; time is moved in the rows."""
    for content in CONTENTS[:PUSHES]:
        draft = begin(stores, CALLER, "vision", "net")
        incoming = draft.open_file("model.pt")
        incoming.write(content)
        draft.close_file(incoming)
        kept["net", publish(draft, VersionCreate()).number] = content
    for model, number in list(kept)[: PUSHES - 1]:
        delete_version(stores, CALLER, "vision", model, str(number))
        if number % 2:
            purge_version(stores, CALLER, "vision", model, number, "room")
        del kept[model, number]
    for _ in range(5):
        stores.catalog.begin_write(location := new_location(), "vision", "ada", datetime.now(UTC))
        with stores.blobs.create(location) as writer:
            writer.write(b"nobody published this")
            writer.commit()
    past = datetime.now(UTC) - timedelta(days=60)

    def move_time(session):
        session.execute(update(DoomedRow).values(not_before=past))
        session.execute(update(WriteIntentRow).values(expires_at=past))
        end_leases(session)
        session.execute(update(VersionRow).where(VersionRow.deleted_at.is_not(None)).values(deleted_at=past))

    stores.catalog.database.write(move_time)


def kill_collections(forks, stores, seed, count):
    choice = random.Random(seed)
    kept = {}
    make_garbage(stores, kept)
    begun = time.monotonic()
    assert forks.wait(forks.start("gc")) == 0
    takes_seconds = time.monotonic() - begun
    for _ in range(count):
        make_garbage(stores, kept)
        collector = forks.start("gc")
        time.sleep(choice.uniform(0.0, takes_seconds))
        forks.kill(collector)
        see_that_nothing_is_lost(stores, kept, set())
    make_garbage(stores, kept)
    assert collect(stores, CALLER, now=datetime.now(UTC) + timedelta(hours=1)).ran
    assert len(list(stores.blobs.iter_locations())) == len(list(stores.catalog.iter_objects()))
    see_that_nothing_is_lost(stores, kept, set())


def test_a_service_that_is_killed_loses_nothing_and_shows_nothing_by_half(forks, open_data):
    kill_services(forks, open_data, seed=1, count=3)


def test_a_collection_that_is_killed_loses_nothing(forks, open_data):
    with open_data() as stores:
        kill_collections(forks, stores, seed=2, count=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", OFTEN)
def test_a_service_that_is_killed_often_loses_nothing(forks, open_data, count):
    kill_services(forks, open_data, seed=3, count=count)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", OFTEN)
def test_collections_that_are_killed_often_lose_nothing(forks, open_data, count):
    with open_data() as stores:
        kill_collections(forks, stores, seed=4, count=count)
