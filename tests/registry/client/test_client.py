"""The real client against a real server process."""

import hashlib
import os
import stat
import threading
import warnings
from collections import OrderedDict

import pytest
import torch
from cutting_proxy import cutting_proxy
from servers import BucketServer

from registry.client.client import Client
from registry.client.pull import DeprecatedVersionWarning
from registry.client.push import SkippedFilesWarning
from registry.errors import (
    AliasNotFoundError,
    ArtifactNotFoundError,
    InvalidMetadataError,
    InvalidReferenceError,
    InvalidRequestError,
    MalformedArtifactError,
    ModelNotFoundError,
    NotFoundError,
    OfflineError,
    ServerUnreachableError,
    TrustCodeRequiredError,
    UnsafeArtifactError,
    VersionInUseError,
    VersionNotFoundError,
)


@pytest.fixture
def hub(live_server, tmp_path):
    with Client(live_server.url, cache_dir=tmp_path / "cache") as client:
        yield client


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


def weights(value: float = 1.0) -> OrderedDict[str, torch.Tensor]:
    return OrderedDict({"fc.weight": torch.full((64, 32), value), "fc.bias": torch.arange(64.0)})


def same(left, right) -> bool:
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(weights(), path)
    return path


def test_a_live_state_dict_comes_back_tensor_for_tensor(hub, name):
    version = hub.push(
        name, weights(), metrics={"top1": torch.tensor(0.5)}, tags={"data": "noise", "frozen": True}, alias="prod"
    )

    assert version.reference == f"{name}:1"
    assert version.annotations.metrics == {"top1": 0.5}
    assert version.annotations.tags == {"data": "noise", "frozen": "true"}
    for pulled in (hub.pull(name), hub.pull(name, version=1), hub.pull(name, version="prod"), hub.pull(f"{name}@prod")):
        assert same(pulled, weights())


def test_what_was_pushed_live_needs_no_download(hub, name, live_server, tmp_path):
    hub.push(name, weights())
    hub.show(name)
    with Client(live_server.url, cache_dir=tmp_path / "cache", offline=True) as offline:
        assert same(offline.pull(name), weights())


def test_a_file_comes_back_byte_for_byte(hub, name, file, tmp_path):
    hub.push(name, file)

    (path,) = hub.download(name, tmp_path / "out")

    assert path == tmp_path / "out" / "model.pt"
    assert path.read_bytes() == file.read_bytes()


def test_a_folder_comes_back_without_its_dot_files_and_says_so(hub, name, file, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub dir").mkdir(parents=True)
    file.rename(folder / "model.pt")
    (folder / "sub dir" / 'con"fig ü.json').write_text("{}")
    (folder / ".hidden").write_text("x")

    with pytest.warns(SkippedFilesWarning, match=r"\.hidden"):
        version = hub.push(name, folder)
    paths = hub.download(name, tmp_path / "out")

    assert any(".hidden" in notice for notice in version.notices)
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in paths) == [
        "model.pt",
        'sub dir/con"fig ü.json',
    ]
    (one,) = hub.download(f'{name}:1/sub dir/con"fig ü.json', tmp_path / "one")
    assert one.read_text() == "{}"


def test_cached_files_are_read_only_and_training_in_place_leaves_them_sound(hub, name, file):
    hub.push(name, file)
    pulled = hub.pull(name)
    with torch.no_grad():
        for tensor in pulled.values():
            tensor.add_(1.0)

    checked = list(hub.connection.cache.verify())

    assert [sound for _, sound in checked] == [True]
    assert [stat.S_IMODE(entry.path.stat().st_mode) for entry, _ in checked] == [0o444]
    assert same(hub.pull(name, verify=True), weights())


def test_a_damaged_cache_file_is_fetched_again(hub, name, file):
    hub.push(name, file)
    hub.pull(name)
    (entry,) = hub.connection.cache.iter_entries()
    entry.path.chmod(0o644)
    entry.path.write_bytes(bytes(entry.size_bytes))

    assert same(hub.pull(name, verify=True), weights())


def test_many_threads_pull_into_one_cache(hub, name, file):
    hub.push(name, file)
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            assert same(hub.pull(name), weights())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    threads = [threading.Thread(target=pull) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [sound for _, sound in hub.connection.cache.verify()] == [True]


def test_a_download_goes_on_where_a_connection_broke(hub, name, live_server, tmp_path):
    big = tmp_path / "big.pt"
    torch.save({"weight": torch.randn(1 << 20)}, big)
    hub.push(name, big)
    behind = BucketServer(live_server.url, "", "")
    with cutting_proxy(behind) as proxy, Client(proxy.endpoint_url, cache_dir=tmp_path / "other") as client:
        proxy.cut_after_bytes, proxy.only_after, proxy.cuts_left = 1 << 20, b"/artifacts/", 3

        (path,) = client.download(name, tmp_path / "out")

        assert proxy.cuts_made == 3
    assert path.read_bytes() == big.read_bytes()


def test_a_large_file_is_written_where_it_is_wanted_while_it_comes(hub, name, live_server, tmp_path, monkeypatch):
    big = tmp_path / "big.pt"
    torch.save({"weight": torch.randn(3 << 20)}, big)
    hub.push(name, big)
    copied = []
    monkeypatch.setattr("shutil.copyfile", lambda *arguments: copied.append(arguments))
    with Client(live_server.url, cache_dir=tmp_path / "other") as client:
        (path,) = client.download(name, tmp_path / "out")

    assert path.read_bytes() == big.read_bytes()
    assert copied == []


def test_a_push_whose_connection_broke_makes_one_version(hub, name, live_server, file, tmp_path):
    behind = BucketServer(live_server.url, "", "")
    with cutting_proxy(behind) as proxy, Client(proxy.endpoint_url, cache_dir=tmp_path / "other") as client:
        proxy.cuts_left = 1  # the answer to the push is lost: nobody knows whether it worked
        version = client.push(name, file)
        assert proxy.cuts_made == 1

    assert version.number == 1
    assert [each.number for each in hub.versions(name)] == [1]


def test_wrong_names_are_errors_that_say_what_there_is(hub, name, file):
    hub.push(name, file, alias="prod")

    with pytest.raises(ModelNotFoundError, match=name[:-1]):
        hub.pull(name[:-1])
    with pytest.raises(VersionNotFoundError, match="1"):
        hub.pull(f"{name}:7")
    with pytest.raises(AliasNotFoundError, match="prod"):
        hub.pull(f"{name}@best")
    with pytest.raises(ArtifactNotFoundError, match=r"model\.pt"):
        hub.download(f"{name}:1/other.pt", "out")
    with pytest.raises(InvalidReferenceError, match="@prod"):
        hub.pull(f"{name}:prod")
    with pytest.raises(InvalidReferenceError):
        hub.push(f"{name}:3", file)


def test_a_bare_name_takes_the_clients_team_or_the_services(hub, live_server, file, tmp_path):
    with Client(live_server.url, team="vision", cache_dir=tmp_path / "cache") as client:
        assert client.push("bare", file).team == "vision"
    assert hub.push("bare", file).team == hub.service().default_team == "shared"


def test_bad_files_are_refused_by_name_and_nothing_is_stored(hub, name, tmp_path):
    (tmp_path / "model.pt").write_text("no weights at all")
    with pytest.raises(MalformedArtifactError):
        hub.push(name, tmp_path / "model.pt")

    import pickle

    class Harm:
        def __reduce__(self):
            return (os.system, ("true",))

    (tmp_path / "gift.pt").write_bytes(pickle.dumps({"weight": Harm()}))
    with pytest.raises(UnsafeArtifactError) as caught:
        hub.push(name, tmp_path / "gift.pt")

    assert any("system" in each for each in caught.value.extra["globals"])
    with pytest.raises(ModelNotFoundError):
        hub.show(name)


def test_metadata_that_does_not_fit_is_refused_before_a_byte_is_sent(hub, name, file):
    with pytest.raises(InvalidMetadataError, match="top1"):
        hub.push(name, file, metrics={"top1": float("nan")})
    with pytest.raises(InvalidMetadataError, match="no number"):
        hub.push(name, file, metrics={"top1": "high"})


def test_an_error_that_the_service_finds_at_once_arrives_while_a_large_body_is_sent(hub, name, tmp_path):
    torch.save({"weight": torch.zeros(16 << 20)}, tmp_path / "large.pt")
    with pytest.raises(NotFoundError, match="no-such-model"):
        hub.push(name, tmp_path / "large.pt", base="vision/no-such-model:1")


def test_a_whole_module_opens_only_for_who_trusts_it(hub, name):
    hub.push(name, torch.nn.Linear(3, 2), as_code=True)

    with pytest.raises(TrustCodeRequiredError, match="pull") as caught:
        hub.load_code(name)
    assert "torch.nn.modules.linear.Linear" in caught.value.extra["globals"]
    assert isinstance(hub.load_code(name, trust_code=True), torch.nn.Linear)
    assert list(hub.pull(name)) == ["weight", "bias"]


def test_a_checkpoint_comes_back_with_its_plain_values(hub, name):
    hub.push(name, {"epoch": 3, "model": weights(), "history": [0.5, {"loss": 1.25}]})
    restored = hub.pull_checkpoint(name)
    assert (restored["epoch"], restored["history"]) == (3, [0.5, {"loss": 1.25}])
    assert same(hub.pull(name), weights())


def test_versions_sort_by_metric_and_the_best_is_found(hub, name, file):
    for loss in (0.5, 0.1, 0.3):
        hub.push(name, file, metrics={"loss": loss})
    hub.push(name, file)

    assert [each.number for each in hub.versions(name)] == [4, 3, 2, 1]
    assert [each.number for each in hub.versions(name, sort="metrics.loss")] == [2, 3, 1, 4]
    assert [each.number for each in hub.versions(name, sort="-metrics.loss", limit=2)] == [1, 3]
    assert hub.best(name, "loss", mode="min").number == 2
    hub.annotate(f"{name}:2", deprecated="trained on the test set")
    assert hub.best(name, "loss", mode="min").number == 3
    with pytest.raises(VersionNotFoundError, match="loss"):
        hub.best(name, "top1")


def test_annotations_change_and_a_deprecated_version_warns_who_uses_it(hub, name, file, tmp_path):
    hub.push(name, file, metrics={"top1": 0.5}, tags={"a": "1", "b": "2"})

    changed = hub.annotate(name, metrics={"top5": 0.9}, tags={"a": None}, description="better", deprecated="old")

    assert changed.annotations.metrics == {"top1": 0.5, "top5": 0.9}
    assert changed.annotations.tags == {"b": "2"}
    with pytest.warns(DeprecatedVersionWarning, match="old"):
        hub.pull(f"{name}:1")
    assert hub.annotate(f"{name}:1", deprecated="").annotations.deprecated is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hub.download(f"{name}:1", tmp_path / "out")


def test_aliases_move_with_a_reason_and_remember(hub, name, file):
    hub.push(name, file)
    hub.push(name, file)

    hub.alias(f"{name}:1", "prod", reason="first")
    hub.alias(f"{name}:2", "prod", reason="second")
    assert hub.alias(f"{name}@prod", "prod").revision == 2

    assert hub.show(f"{name}@prod").number == 2
    assert [each.name for each in hub.aliases(name)] == ["prod"]
    moves = [(move.from_version, move.to_version, move.reason) for move in hub.alias_history(name, "prod")]
    assert moves == [(1, 2, "second"), (None, 1, "first")]
    with pytest.raises(VersionInUseError):
        hub.delete(f"{name}:2")
    hub.remove_alias(name, "prod")
    with pytest.raises(AliasNotFoundError):
        hub.show(f"{name}@prod")


def test_what_is_deleted_can_be_restored(hub, name, file):
    hub.push(name, file)
    hub.push(name, file)

    hub.delete(f"{name}:2")
    assert hub.show(name).number == 1
    assert [each.number for each in hub.versions(name, deleted=True)] == [2, 1]
    assert hub.restore(f"{name}:2").number == 2

    hub.delete(name)
    with pytest.raises(ModelNotFoundError):
        hub.show(name)
    hub.restore(name)
    assert hub.show(name).number == 2


def test_models_are_listed_and_found(hub, name, file):
    hub.push(name, file)
    team, _, model = name.partition("/")
    assert name in {each.full_name for each in hub.list(team=team)}
    assert [each.full_name for each in hub.search(model)] == [name]
    assert hub.model(name).latest == 1
    assert hub.list(limit=1)[0].full_name


def test_a_listing_follows_pages(hub, name, file, monkeypatch):
    from registry.client import listing

    monkeypatch.setattr(listing, "PAGE_ITEMS", 2)
    for _ in range(5):
        hub.push(name, file)
    assert [each.number for each in hub.versions(name)] == [5, 4, 3, 2, 1]
    assert [each.number for each in hub.versions(name, limit=3)] == [5, 4, 3]


def test_offline_answers_from_the_cache_or_says_that_it_cannot(hub, name, file, live_server, tmp_path):
    hub.push(name, file, alias="prod")
    hub.pull(f"{name}@prod")
    hub.inspect(f"{name}:1")
    with Client(live_server.url, cache_dir=tmp_path / "cache", offline=True) as offline:
        assert same(offline.pull(f"{name}@prod"), weights())
        assert same(offline.pull(name, version=1), weights())
        assert offline.download(f"{name}:1", tmp_path / "out")[0].read_bytes() == file.read_bytes()
        assert len(offline.inspect(f"{name}:1").tensors) == 2
        with pytest.raises(OfflineError, match="WEIGHBRIDGE_OFFLINE"):
            offline.pull(f"{name}@best")
        with pytest.raises(OfflineError):
            offline.push(name, file)
        with pytest.raises(OfflineError):
            offline.versions(name)


def test_offline_without_the_bytes_says_so(hub, name, file, live_server, tmp_path):
    hub.push(name, file)
    hub.show(name)
    with (
        Client(live_server.url, cache_dir=tmp_path / "cache", offline=True) as offline,
        pytest.raises(OfflineError, match=r"model\.pt"),
    ):
        offline.pull(name)


def test_a_remote_inspection_is_what_a_local_one_says(hub, name, file):
    hub.push(name, file)
    local, remote = hub.inspect(file), hub.inspect(name)
    assert (remote.tensors, remote.storages, remote.kind, remote.trust) == (
        local.tensors,
        local.storages,
        local.kind,
        local.trust,
    )


def test_local_files_need_no_service(file, tmp_path):
    with Client("http://127.0.0.1:9", cache_dir=tmp_path / "cache") as client:
        assert same(client.pull(str(file)), weights())
        assert same(client.pull_checkpoint(file), weights())
        assert client.inspect(str(file)).kind == "state_dict"
        assert client.download(file, tmp_path / "out")[0].read_bytes() == file.read_bytes()
        with pytest.raises(InvalidReferenceError):
            client.pull(str(file), version=3)
        with pytest.raises(ServerUnreachableError):
            client.pull("vision/resnet50")
    assert not (tmp_path / "cache").exists()


def test_a_file_that_shrinks_while_it_is_pushed_publishes_nothing(hub, name, file, monkeypatch):
    from registry.client import push
    from registry.errors import SizeMismatchError

    collect = push.collect

    def collect_then_shrink(sources):  # stands for a training loop that writes over its checkpoint meanwhile
        collected = collect(sources)
        os.truncate(file, 100)
        return collected

    monkeypatch.setattr(push, "collect", collect_then_shrink)
    with pytest.raises(SizeMismatchError, match="shorter"):
        hub.push(name, file)
    with pytest.raises(ModelNotFoundError):
        hub.show(name)


def test_a_download_from_a_damaged_cache_is_fetched_again(hub, name, file, tmp_path):
    version = hub.push(name, file)
    hub.download(version.reference, tmp_path / "first")
    (kept,) = hub.cache_dir.rglob(version.artifacts[0].blake3.removeprefix("blake3:"))
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes()[:-4] + b"rust")
    (back,) = hub.download(version.reference, tmp_path / "second")
    assert back.read_bytes() == file.read_bytes()


def test_the_arguments_in_the_order_of_torch_save_are_answered_with_the_right_one(hub):
    with pytest.raises(InvalidReferenceError, match="comes first"):
        hub.push(weights(), "vision/net")


def test_best_knows_two_modes(hub, name):
    hub.push(name, weights(), metrics={"top1": 1.0})
    with pytest.raises(InvalidRequestError, match="`min` or `max`"):
        hub.best(name, "top1", mode="minimum")
