"""Rows of fine-tunes: what a push and a pull of a version cost whose base is there, beside Xet where it can do that."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from transfers import xet_peer
from transfers.bucket import running_bucket, variables_of
from transfers.counting_proxy import CountingProxy, counting
from transfers.networks import HEADS, Network, StateDict, allowed_bytes
from transfers.place import MIB, Place, Site, scratch, serving
from transfers.rounds import Aim, Figure, Spent, Table, alternate, figures_of, say, timed
from transfers.whole import OURS, REFERENCE
from transfers.workers import Worker
from weighbridge import Client

XET = xet_peer.NAME
TIMED = {"resnet50": Aim(1 / 2, 1 / 3), "vgg16": Aim(1 / 4, 1 / 8)}
"""The bounds that pushing a changed head is held to, as shares of what Xet takes."""
FORMATS_SHARE = 0.01
COLD, WARM = f"{OURS}, nothing cached", f"{OURS}, base cached"
CHECKPOINTS = 20


@dataclass(frozen=True, slots=True)
class Ground:
    """Both peers, with a base pushed to both, and its state_dict.

    Attributes:
        hub: our client.
        worker: that of Xet.
        pid: our service.
        proxies: what counts the bytes of ours and of theirs; None where a push is timed.
    """

    hub: Client
    worker: Worker
    pid: int
    proxies: tuple[CountingProxy, CountingProxy] | None
    folder: Path
    state_dict: StateDict

    def save(self) -> Path:
        """Return a `.pt` of the state_dict as it is now."""
        return save(self.state_dict, self.folder)

    def push_ours(self, file: Path) -> Spent:
        """Push a file to the service."""
        return timed(lambda: self.hub.push(REFERENCE, file), self.pid)

    def push_theirs(self, file: Path) -> Spent:
        """Push a file by Xet."""
        return self.worker.spend("push", file=str(file))

    def count(self, file: Path) -> dict[str, float]:
        """Push a file by both; return how many MiB passed of each."""
        if self.proxies is None:
            raise ValueError("this ground counts nothing")
        counted: dict[str, float] = {}
        pushes = {OURS: self.push_ours, XET: self.push_theirs}
        for (who, push), proxy in zip(pushes.items(), self.proxies, strict=True):
            before = passed(proxy)
            push(file)
            counted[who] = (passed(proxy) - before) / MIB
        return counted


def push_heads(place: Place) -> Table:
    """Push a file whose head alone is new."""
    figures: list[Figure] = []
    for name, aim in TIMED.items():
        network = Network(name)
        with _ground(place, network) as ground:

            def changed(network: Network = network, ground: Ground = ground) -> Path:
                network.change_head(ground.state_dict)
                return ground.save()

            ours, theirs = f"{OURS}, {name}", f"{XET}, {name}"
            peers = {
                ours: lambda ground=ground, changed=changed: ground.push_ours(changed()),
                theirs: lambda ground=ground, changed=changed: ground.push_theirs(changed()),
            }
            aims = {ours: [Aim(aim.must, aim.goal, theirs)]}
            size = size_of(ground.state_dict)
            figures += figures_of(alternate(peers, place.rounds, size), size, aims)
    return Table("head-push", "Push of a file whose head alone is new", place.name, figures)


def count_push_bytes(place: Place) -> Table:
    """Count what passes, both ways with headers, when a head, or a head and all running statistics, are new."""
    figures: list[Figure] = []
    for name in HEADS:
        network = Network(name)
        with _ground(place, network, is_counting=True) as ground:
            changes = {"head": network.change_head}
            if network.has_statistics(ground.state_dict):
                changes["head and statistics"] = network.change_statistics
            for what, change in changes.items():
                allowed = allowed_bytes(change(ground.state_dict), len(ground.state_dict)) / MIB
                figures += _counted(f"{name}, {what}", ground.count(ground.save()), allowed)
    return Table("head-bytes", "Bytes of a push whose base is stored", place.name, figures)


def count_format_bytes(place: Place) -> Table:
    """Count what passes when the tensors of a `.pt` come again as `.safetensors`."""
    with _ground(place, Network("resnet50"), is_counting=True) as ground:
        file = ground.folder / "model.safetensors"
        safetensors.torch.save_file(ground.state_dict, file)
        figures = [*_counted("resnet50", ground.count(file), FORMATS_SHARE * file.stat().st_size / MIB)]
    return Table("format-bytes", "Bytes of a .safetensors push of tensors stored as .pt", place.name, figures)


def push_all(place: Place) -> Table:
    """Push a file of which nothing is stored, into a team that has another one of the same architecture, or none."""
    network = Network("vgg16")
    again, cold = f"{OURS}, base stored", f"{OURS}, nothing stored"
    with ExitStack() as until_the_end:
        folder = until_the_end.enter_context(scratch(place, "all"))
        stored = until_the_end.enter_context(serving(folder / "stored"))
        empty = until_the_end.enter_context(serving(folder / "empty"))
        state_dict = network.make_state_dict()
        with stored.client(folder / "cache") as hub:
            hub.push(REFERENCE, save(state_dict, folder))

        def push(site: Site) -> Spent:
            network.change_all(state_dict)
            file = save(state_dict, folder)
            with site.client(folder / "cache") as hub:
                return timed(lambda: hub.push(REFERENCE, file), site.pid)

        size = size_of(state_dict)
        found = alternate({again: lambda: push(stored), cold: lambda: push(empty)}, place.rounds, size)
        figures = figures_of(found, size, {again: [Aim(1 / 0.95, None, cold)]})
    return Table("all-push", "Push of a file whose every tensor is new", place.name, figures)


def pull_heads(place: Place) -> Table:
    """Pull a fine-tune into a state_dict that is mapped, with its base in the cache and with nothing there."""
    figures = [figure for name in HEADS for figure in _pull_head(place, Network(name))]
    return Table("head-pull", "Pull of a fine-tune into a mapped state_dict", place.name, figures)


def _pull_head(place: Place, network: Network) -> list[Figure]:
    warm, cold = f"{WARM}, {network.name}", f"{COLD}, {network.name}"
    with scratch(place, "pull") as folder, serving(folder / "service") as site:
        state_dict = network.make_state_dict()
        with site.client(folder / "cache") as hub:
            hub.push(REFERENCE, save(state_dict, folder))
            network.change_head(state_dict)
            hub.push(REFERENCE, save(state_dict, folder))

        def pull(*, is_warm: bool) -> Spent:
            with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
                if is_warm:
                    hub.pull(f"{REFERENCE}:1")
                return timed(lambda: hub.pull(f"{REFERENCE}:2"), site.pid)

        size = size_of(state_dict)
        peers = {warm: lambda: pull(is_warm=True), cold: lambda: pull(is_warm=False)}
        found = alternate(peers, place.rounds, size)
        return figures_of(found, size, {warm: [Aim(1 / 10, 1 / 20, cold)]})


def count_pull_bytes(place: Place) -> Table:
    """Count what passes, both ways with headers, when a fine-tune is pulled whose base is in the cache."""
    figures: list[Figure] = []
    for name in HEADS:
        network = Network(name)
        with scratch(place, "pull") as folder, serving(folder / "service") as site:
            state_dict = network.make_state_dict()
            with site.client(folder / "cache") as hub:
                hub.push(REFERENCE, save(state_dict, folder))
                allowed = allowed_bytes(network.change_head(state_dict), len(state_dict)) / MIB
                hub.push(REFERENCE, save(state_dict, folder))
            with counting(site.url) as proxy, Client(proxy.url, site.token, cache_dir=folder / "fresh") as hub:
                hub.pull(f"{REFERENCE}:1")
                before = passed(proxy)
                hub.pull(f"{REFERENCE}:2")
                counted = (passed(proxy) - before) / MIB
        figures += _counted(name, {OURS: counted}, allowed)
    return Table("pull-bytes", "Bytes of a pull whose base is in the cache", place.name, figures)


def download(place: Place) -> Table:
    """Download a whole fine-tune from a bucket by plain HTTP, and its base, to which the service redirects."""
    network = Network("vgg16")
    with running_bucket(place) as (bucket, folder), serving(folder / "service", variables_of(bucket)) as site:
        state_dict = network.make_state_dict()
        with site.client(folder / "cache") as hub:
            hub.push(REFERENCE, save(state_dict, folder))
            network.change_head(state_dict)
            hub.push(REFERENCE, save(state_dict, folder))
        peers = {
            f"{OURS}, fine-tune": lambda: timed(lambda: _download(site, 2, folder), site.pid),
            f"{OURS}, base": lambda: timed(lambda: _download(site, 1, folder), site.pid),
        }
        aims = {f"{OURS}, fine-tune": [Aim(1 / 0.5, 1 / 0.9, f"{OURS}, base")]}
        size = size_of(state_dict)
        figures = figures_of(alternate(peers, place.rounds, size), size, aims)
    return Table("head-download", "Whole download of a fine-tune in a bucket, by curl", place.name, figures)


def _download(site: Site, number: int, folder: Path) -> None:
    url = f"{site.url}/api/v1/models/{REFERENCE}/versions/{number}/artifacts/model.pt"
    target = folder / "downloaded"
    command = ["curl", "--fail", "--silent", "--show-error", "--location", "--output", target, url]
    subprocess.run([*command, "--header", f"Authorization: Bearer {site.token}"], check=True)
    if target.stat().st_size != (folder / "model.pt").stat().st_size:
        raise RuntimeError("what came has another size")


def store_checkpoints(place: Place) -> Table:
    """Measure what is stored after twenty checkpoints of a run whose backbone is frozen, weights only."""
    network = Network("resnet50")
    with scratch(place, "stored") as folder, serving(folder / "service") as site:
        state_dict = network.make_state_dict()
        file = save(state_dict, folder)
        with site.client(folder / "cache") as hub:
            for _ in range(CHECKPOINTS):
                hub.push(REFERENCE, file)
                network.change_head(state_dict)
                file = save(state_dict, folder)
        stored = sum(each.stat().st_size for each in (site.folder / "blobs").rglob("*") if each.is_file()) / MIB
        aims = [Aim(1.1 * file.stat().st_size / MIB)]
    figures = [Figure(f"{OURS}, {CHECKPOINTS} checkpoints", "MiB", [stored], aims=aims)]
    return Table("checkpoints", "Bytes stored of a run whose backbone is frozen", place.name, figures)


@contextmanager
def _ground(place: Place, network: Network, *, is_counting: bool = False) -> Iterator[Ground]:
    """Run both on a folder of the place, and push a base to both."""
    with ExitStack() as until_the_end:
        folder = until_the_end.enter_context(scratch(place, network.name))
        site = until_the_end.enter_context(serving(folder / "service"))
        near = site.url
        far, receiver = until_the_end.enter_context(xet_peer.receiving(folder / "receiver"))
        proxies = None
        if is_counting:
            proxies = until_the_end.enter_context(counting(near)), until_the_end.enter_context(counting(far))
            near, far = (each.url for each in proxies)
        hub = until_the_end.enter_context(Client(near, site.token, cache_dir=folder / "cache", progress=False))
        worker = until_the_end.enter_context(xet_peer.client(folder / "xet", far, receiver))
        ground = Ground(hub, worker, site.pid, proxies, folder, network.make_state_dict())
        base = ground.save()
        ground.push_ours(base)
        ground.push_theirs(base)
        yield ground


def _counted(what: str, counted: Mapping[str, float], allowed: float) -> Iterator[Figure]:
    for who, mib in counted.items():
        say(f"  {who}, {what}: {mib:.2f} MiB")
        yield Figure(f"{who}, {what}", "MiB", [mib], aims=[Aim(allowed)] if who == OURS else [])


def save(state_dict: StateDict, folder: Path) -> Path:
    """Return a new `.pt` of a state_dict."""
    file = folder / "model.pt"
    torch.save(state_dict, file)
    return file


def size_of(state_dict: StateDict) -> int:
    """Return how many bytes the tensors of a state_dict have."""
    return sum(tensor.nbytes for tensor in state_dict.values())


def passed(proxy: CountingProxy) -> int:
    """Return how many bytes have passed so far, both ways."""
    return sum(proxy.sent.values()) + sum(proxy.received.values())
