"""Downloads that leave nothing in the cache: the same files as with it, in half the room."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from cutting_proxy import cutting_proxy
from servers import BucketServer

from registry.client import downloading, pull, reading
from registry.client.client import Client
from registry.errors import (
    ConfigurationError,
    DigestMismatchError,
    InvalidPathError,
    InvalidRequestError,
    OfflineError,
    ServerUnreachableError,
)

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@pytest.fixture
def hub(live_server, tmp_path):
    with Client(live_server.url, cache_dir=tmp_path / "cache") as client:
        yield client


@pytest.fixture
def pusher(live_server, tmp_path):
    with Client(live_server.url, cache_dir=tmp_path / "cache of another") as client:
        yield client


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


@pytest.fixture
def pushed(pusher, name, tmp_path):
    """A pushed folder: weights, the same bytes under a second name, and a note."""
    folder = tmp_path / "pushed"
    (folder / "copies").mkdir(parents=True)
    torch.save({"weight": torch.randn(3 << 18)}, folder / "model.pt")
    shutil.copyfile(folder / "model.pt", folder / "copies" / "again.pt")
    (folder / "NOTES.txt").write_text(name)
    pusher.push(name, folder)
    return folder


def contents(folder):
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def kept(client):
    return [each.digest for each in client.connection.cache.iter_entries()]


def never(*_):
    raise AssertionError("it was fetched")


def left_on_the_way(client):
    return [each.name for each in client.connection.cache.temporary_folder().iterdir()]


def test_what_is_downloaded_without_the_cache_is_nowhere_else(hub, name, pushed, tmp_path):
    paths = hub.download(name, tmp_path / "out", cache=False)

    assert contents(tmp_path / "out") == contents(pushed)
    assert sorted(paths) == sorted(tmp_path / "out" / each for each in contents(pushed))
    assert kept(hub) == []
    assert left_on_the_way(hub) == []
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["NOTES.txt", "copies", "model.pt"]


def test_what_came_is_moved_and_only_its_second_place_gets_a_copy(hub, name, pushed, tmp_path, monkeypatch):
    copied = []
    copy = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda *paths: copied.append(paths) or copy(*paths))
    hub.download(name, tmp_path / "out", cache=False)
    assert len(copied) == 1


def test_its_files_have_the_rights_that_any_file_of_the_user_has(hub, name, pushed, tmp_path):
    paths = hub.download(name, tmp_path / "out", cache=False)
    mine = tmp_path / "mine"
    mine.touch()
    assert {each.stat().st_mode for each in paths} == {mine.stat().st_mode}


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid(), reason="only root may give a folder to another group")
def test_its_files_belong_to_the_group_that_the_folder_gives_them(hub, name, pushed, tmp_path):
    (tmp_path / "out").mkdir()
    os.chown(tmp_path / "out", -1, 12345)
    (tmp_path / "out").chmod(0o2775)
    paths = hub.download(name, tmp_path / "out", cache=False)
    assert {each.stat().st_gid for each in paths} == {12345}


def test_the_same_path_twice_is_refused_whatever_a_pin_says(hub, name, pushed, tmp_path, monkeypatch):
    resolved = hub.connection.resolver.version

    def twice(reference):
        version = resolved(reference)
        return version.model_copy(
            update={"artifacts": [*version.artifacts, version.artifacts[0].model_copy(update={"path": "model.pt"})]}
        )

    monkeypatch.setattr(type(hub.connection.resolver), "version", lambda _, reference: twice(reference))
    for cache in (True, False):
        with pytest.raises(InvalidPathError):
            hub.download(name, tmp_path / "out", cache=cache)


def test_what_the_cache_holds_is_taken_from_there(hub, name, pushed, tmp_path, live_server):
    hub.pull(f"{name}:1/model.pt")
    with Client(live_server.url, cache_dir=hub.cache_dir, offline=True) as offline:
        offline.download(f"{name}:1/model.pt", tmp_path / "out", cache=False)
        with pytest.raises(OfflineError):
            offline.download(f"{name}:1/NOTES.txt", tmp_path / "out", cache=False)

    assert list(contents(tmp_path / "out")) == ["model.pt"]
    assert len(kept(hub)) == 1
    hub.download(name, tmp_path / "all", cache=False)
    assert contents(tmp_path / "all") == contents(pushed)


def test_it_goes_on_where_it_broke(live_server, name, pushed, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "back_off_seconds", lambda _: 0.0)
    behind = BucketServer(live_server.url, "", "")
    with cutting_proxy(behind) as proxy, Client(proxy.endpoint_url, cache_dir=tmp_path / "cache") as client:
        proxy.cut_after_bytes, proxy.only_after, proxy.cuts_left = 1 << 18, b"/artifacts/", 100
        with pytest.raises(ServerUnreachableError):
            client.download(f"{name}:1/model.pt", tmp_path / "out", cache=False)
        came = [each for each in client.cache_dir.rglob("journal") if each.stat().st_size]
        proxy.cuts_left = 0
        before = proxy.passed_bytes
        client.download(f"{name}:1/model.pt", tmp_path / "out", cache=False)
        sent = proxy.passed_bytes - before

    assert came
    assert sent < (pushed / "model.pt").stat().st_size
    assert contents(tmp_path / "out") == {"model.pt": (pushed / "model.pt").read_bytes()}


def test_a_folder_that_is_no_folder_is_named_before_anything_comes(hub, name, pushed, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "download_apart", never)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        hub.download(name, tmp_path / "out", cache=False)


def test_a_link_out_of_the_folder_is_refused_before_anything_comes(hub, name, pushed, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "copies").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidPathError):
        hub.download(name, tmp_path / "out", cache=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["copies"]


def test_several_at_once_into_one_folder_all_succeed(live_server, name, pushed, tmp_path):
    begin = threading.Barrier(4)

    def run(number):
        with Client(live_server.url, cache_dir=tmp_path / "cache") as client:
            begin.wait()
            return client.download(name, tmp_path / "out", cache=number == 0)

    with ThreadPoolExecutor(4) as pool:
        assert all(len(paths) == 3 for paths in pool.map(run, range(4)))
    assert contents(tmp_path / "out") == contents(pushed)
    with Client(live_server.url, cache_dir=tmp_path / "cache") as client:
        assert [sound for _, sound in client.connection.cache.verify()] == [True, True]
        assert left_on_the_way(client) == []


def test_a_folder_on_another_file_system_gets_its_files_too(hub, name, pushed, tmp_path, monkeypatch):
    replace = Path.replace

    def refuse_to_move_out(self, target):
        if self.name.startswith("whole-"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_to_move_out)
    hub.download(name, tmp_path / "out", cache=False)
    assert contents(tmp_path / "out") == contents(pushed)
    assert left_on_the_way(hub) == []


def test_what_lies_in_its_place_already_is_not_fetched_again(hub, name, pushed, tmp_path, live_server):
    hub.download(name, tmp_path / "out", cache=False)
    (tmp_path / "out" / "NOTES.txt").write_text("changed")
    before = {each: each.stat().st_ino for each in (tmp_path / "out").rglob("*.pt")}
    hub.download(name, tmp_path / "out", cache=False)

    assert contents(tmp_path / "out") == contents(pushed)
    assert {each: each.stat().st_ino for each in before} == before
    with Client(live_server.url, cache_dir=hub.cache_dir, offline=True) as offline:
        offline.download(name, tmp_path / "out", cache=False)


def test_a_link_to_the_same_bytes_is_replaced_by_a_file(hub, name, pushed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.pt").symlink_to(pushed / "model.pt")
    hub.download(name, tmp_path / "out", cache=False)
    assert not (tmp_path / "out" / "model.pt").is_symlink()
    assert contents(tmp_path / "out") == contents(pushed)


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_comes(hub, name, pushed, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "download_apart", never)
    (tmp_path / "out" / "NOTES.txt").mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        hub.download(name, tmp_path / "out", cache=False)
    assert contents(tmp_path / "out") == {}


def test_other_bytes_than_a_pin_names_are_not_placed(hub, name, pushed, tmp_path, monkeypatch):
    digest = hashlib.sha256((pushed / "model.pt").read_bytes()).hexdigest()
    monkeypatch.setattr(pull, "hash_file", lambda _: "sha256:" + "0" * 64)
    with pytest.raises(DigestMismatchError):
        hub.download(f"{name}@sha256:{digest}", tmp_path / "out", cache=False)
    assert contents(tmp_path / "out") == {}
    assert left_on_the_way(hub) == []


def test_a_cache_folder_that_is_none_is_named(live_server, name, pushed, tmp_path):
    (tmp_path / "file").touch()
    with Client(live_server.url, cache_dir=tmp_path / "file" / "cache") as client:
        for cache in (True, False):
            with pytest.raises(ConfigurationError, match="WEIGHBRIDGE_CACHE"):
                client.download(name, tmp_path / "out", cache=cache)


def test_the_command_says_it_with_no_cache(live_server, name, pushed, tmp_path):
    command = [SCRIPT, "download", f"{name}:1/model.pt", "-o", str(tmp_path / "out")]
    variables = os.environ | {"WEIGHBRIDGE_URL": live_server.url, "WEIGHBRIDGE_CACHE": str(tmp_path / "cache")}
    subprocess.run([*command, "--no-cache"], check=True, env=variables, timeout=60)
    assert contents(tmp_path / "out") == {"model.pt": (pushed / "model.pt").read_bytes()}
    assert not list((tmp_path / "cache").rglob("objects"))
