"""Pulls by tensor from a real service that go wrong: killed, damaged, pruned, lied to, many at once."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from equality import assert_same
from pulled_nets import MIB, cached_files, tuned_from

from registry.client import gathering, taking
from registry.client.client import Client
from registry.client.packing import PartialPack
from registry.errors import ConfigurationError, DigestMismatchError, OfflineError

GATHER = """
import sys
from registry.client.client import Client
from registry.client.gathering import Wanted, use_weights
with Client(sys.argv[1], cache_dir=sys.argv[2], progress=False) as client:
    print(use_weights(client.connection, sys.argv[3], None, Wanted(), lambda files: len(files[0].places)))
"""
"""`pull`, as far as it goes without PyTorch, which takes longer to import than all else."""


def start(url, folder, name):
    return subprocess.Popen([sys.executable, "-c", GATHER, url, str(folder), name], stdout=subprocess.PIPE, text=True)


def test_eight_processes_fetch_what_a_fine_tune_changed_once(hub, proxy, push, name, base):
    push(name, base)
    tuned = tuned_from(base, "head")
    push(f"{name}-tuned", tuned)
    hub.pull(name)
    proxy.reset()
    proxy.only = b"/artifacts/"

    many = [start(proxy.url, hub.cache_dir, f"{name}-tuned") for _ in range(8)]

    assert {int(each.communicate(timeout=120)[0]) for each in many} == {len(base) - 1}
    assert proxy.answered_bytes <= 1.2 * MIB
    assert len(cached_files(hub)) == 2
    assert torch.equal(hub.pull(f"{name}-tuned")["head.weight"], tuned["head.weight"])
    assert list((hub.cache_dir / "v1" / "locks").iterdir()) == []
    assert list((hub.cache_dir / "v1" / "tmp").iterdir()) == []


def test_a_killed_pull_goes_on_where_it_stopped(hub, proxy, push, name):
    base = {f"{number}.weight": torch.randn(1024, 1024) for number in range(4)} | {"head.weight": torch.randn(4)}
    tuned = base | {f"{number}.weight": torch.randn(1024, 1024) for number in range(2)}
    push(name, base)
    push(f"{name}-tuned", tuned)
    hub.pull(name)
    proxy.reset()
    proxy.only, proxy.bytes_per_second = b"/artifacts/", 2 * MIB
    killed = start(proxy.url, hub.cache_dir, f"{name}-tuned")
    deadline = time.monotonic() + 60
    while proxy.answered_bytes < 4 * MIB:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    proxy.reset()
    proxy.bytes_per_second = None

    found = hub.pull(f"{name}-tuned")

    assert all(torch.equal(found[key], tuned[key]) for key in tuned)
    assert proxy.answered_bytes <= 6 * MIB


def damage(path, offset=-8):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[offset] ^= 255
    path.write_bytes(data)


def test_a_damaged_pack_is_found_and_fetched_again(hub, push, name, base):
    push(name, base)
    tuned = tuned_from(base, "head")
    push(f"{name}-tuned", tuned)
    hub.pull(name)
    (whole,) = cached_files(hub)
    hub.pull(f"{name}-tuned")
    (pack,) = set(cached_files(hub)) - {whole}
    damage(pack)

    assert torch.equal(hub.pull(f"{name}-tuned", verify=True)["head.bias"], tuned["head.bias"])
    damage(pack)
    assert {entry.path: sound for entry, sound in hub.connection.cache.verify()} == {whole: True, pack: False}
    assert not hub.connection.cache.index_of(f"blake3:{pack.name}").exists()
    assert torch.equal(hub.pull(f"{name}-tuned")["head.bias"], tuned["head.bias"])


def test_bytes_that_are_damaged_on_their_way_never_enter(hub, push, name, base, monkeypatch):
    push(name, base)
    push(f"{name}-tuned", tuned_from(base, "head"))
    hub.pull(name)
    note = PartialPack.note

    def flip(self, offset, length):
        last, place = bytearray(1), self._layout.find(offset) + length - 1
        self._file.read_into(place, memoryview(last))
        self._file.write(place, memoryview(bytes([last[0] ^ 255])))
        note(self, offset, length)

    monkeypatch.setattr(PartialPack, "note", flip)
    with pytest.raises(DigestMismatchError):
        hub.pull(f"{name}-tuned")
    assert len(cached_files(hub)) == 1


def test_a_base_that_is_pruned_or_cut_between_plan_and_use_is_fetched_again(hub, push, name, base, monkeypatch):
    push(name, base)
    file = push(f"{name}-tuned", tuned_from(base, "head"))
    truth = torch.load(file, weights_only=True)
    gather = gathering._gather

    def lose(take):
        hub.pull(name)
        left = [take, take]

        def gather_and_lose(*arguments):
            files = gather(*arguments)
            if left:
                for path in {place.file for place in files[0].places.values()}:
                    left.pop()(path)
                left.clear()
            return files

        monkeypatch.setattr(gathering, "_gather", gather_and_lose)
        found = hub.pull(f"{name}-tuned")
        monkeypatch.setattr(gathering, "_gather", gather)
        assert_same(found, truth)

    def cut(path):
        path.chmod(0o644)
        os.truncate(path, path.stat().st_size - 10)

    lose(lambda path: path.unlink())
    for path in cached_files(hub):
        hub.connection.cache.remove(f"blake3:{path.name}")
    lose(cut)


def test_a_cache_that_is_always_emptied_is_a_named_error(hub, push, name, base, monkeypatch):
    push(name, base)
    push(f"{name}-tuned", tuned_from(base, "head"))
    gather = gathering._gather

    def gather_and_lose(*arguments):
        files = gather(*arguments)
        for path in cached_files(hub):
            path.unlink()
        return files

    monkeypatch.setattr(gathering, "_gather", gather_and_lose)
    with pytest.raises(ConfigurationError, match="prun"):
        hub.pull(f"{name}-tuned")


def test_offline_the_cache_is_enough_or_says_what_it_lacks(hub, push, name, base):
    push(name, base)
    push(f"{name}-tuned", tuned_from(base, "head"))
    hub.pull(name)
    hub.pull(f"{name}-tuned", include="trunk.*")
    with Client(hub.url, cache_dir=hub.cache_dir, offline=True, progress=False) as offline:
        assert len(offline.pull(f"{name}-tuned", exclude="head.*")) == len(base) - 2

        with pytest.raises(OfflineError, match=r"model\.pt"):
            offline.pull(f"{name}-tuned")


def test_a_head_that_says_something_else_than_the_manifest_is_not_believed(hub, push, name, base, monkeypatch):
    push(name, base)
    file = push(f"{name}-tuned", tuned_from(base, "head"))
    hub.pull(name)
    read_head = taking.read_head

    def read_other(head, known, **made):
        return read_head(head.replace(b"head.bias", b"hXad.bias"), known, **made)

    monkeypatch.setattr(taking, "read_head", read_other)

    assert_same(hub.pull(f"{name}-tuned"), torch.load(file, weights_only=True))
    assert file.stat().st_size in [entry.size_bytes for entry in hub.connection.cache.iter_entries()]


def test_pruning_takes_indexes_with_their_files_and_those_whose_files_are_gone(hub, push, name, base):
    push(name, base)
    hub.pull(name)
    cache = hub.connection.cache
    (path,) = cached_files(hub)
    index, orphan = cache.index_of(f"blake3:{path.name}"), cache.index_of("blake3:" + "0" * 64)
    orphan.write_bytes(b"x")
    os.utime(orphan, (0, 0))

    assert index.exists()
    cache.prune(max_bytes=0)

    assert not index.exists()
    assert not orphan.exists()


def test_a_damaged_index_is_none(hub, proxy, push, name, base):
    push(name, base)
    push(f"{name}-tuned", tuned_from(base, "head"))
    hub.pull(name)
    (path,) = cached_files(hub)
    damage(hub.connection.cache.index_of(f"blake3:{path.name}"), 100)

    assert len(hub.pull(f"{name}-tuned")) == len(base)


def test_the_manifest_of_an_older_service_is_taken_as_it_comes(hub, push, name, base, monkeypatch):
    push(name, base)
    monkeypatch.setattr(hub.connection.resolver, "_stored_manifest", lambda *_: None)

    assert len(hub.pull(name, include="head.*")) == 2
    (kept,) = (hub.cache_dir / "v1" / "manifests").iterdir()
    assert json.loads(kept.read_bytes())["format"] == "torch-zip"
