"""Rows of the embedded service: a state_dict pushed, pulled to files, and pulled into a module's parameters."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from transfers import weights
from transfers.mlflow_peer import NAME, Mlflow, forget_artifacts
from transfers.place import Place, Site, copy, scratch, serving, synchronise
from transfers.rounds import Aim, Peers, Spent, Table, alternate, figures_of, timed
from transfers.workers import Worker

REFERENCE = "bench/net"
OURS, KEPT = "Weighbridge", "Weighbridge, kept in the cache, too"
SAVE, LOAD, COPY = "torch.save to a shared folder", "torch.load from a shared folder", "cp"


def push(place: Place) -> Table:
    """Push a state_dict that the service has nothing of."""
    with _peers(place) as (folder, site, mlflow, mlflow_folder):
        state_dict = weights.make_state_dict(place.size_bytes)
        shared, source = folder / "shared.pt", folder / "source.pt"
        torch.save(state_dict, source)

        def ours() -> Spent:
            weights.change(state_dict)
            site.free_room()
            with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
                return timed(lambda: hub.push(REFERENCE, state_dict), site.pid)

        def theirs() -> Spent:
            forget_artifacts(mlflow_folder)
            return mlflow.spend("push", size_bytes=place.size_bytes, sync=place.sync)

        def save() -> None:
            torch.save(state_dict, shared)
            if place.sync:
                synchronise(shared)

        peers = {
            OURS: ours,
            NAME: theirs,
            SAVE: lambda: _timed_anew(save, shared),
            COPY: lambda: _timed_anew(lambda: copy(source, shared, sync=place.sync), shared),
        }
        return _table("push", "Push of a state_dict, cold", place, peers, Aim(1 / 2.5, 1 / 4, NAME))


def pull(place: Place) -> Table:
    """Pull a state_dict to a file, with nothing of it in the cache."""
    with _peers(place) as (folder, site, mlflow, _):
        state_dict = weights.make_state_dict(place.size_bytes)
        shared, target = folder / "shared.pt", folder / "target.pt"
        torch.save(state_dict, shared)
        with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
            hub.push(REFERENCE, state_dict)
        mlflow.spend("push", size_bytes=place.size_bytes, sync=place.sync)

        def ours(*, keeps: bool) -> Spent:
            with tempfile.TemporaryDirectory(dir=folder) as own, site.client(Path(own) / "cache") as hub:
                return timed(lambda: hub.download(REFERENCE, Path(own) / "files", cache=keeps), site.pid)

        peers = {
            OURS: lambda: ours(keeps=False),
            KEPT: lambda: ours(keeps=True),
            NAME: lambda: mlflow.spend("pull"),
            COPY: lambda: _timed_anew(lambda: copy(shared, target, sync=place.sync), target),
        }
        return _table("pull", "Pull to a file, cold", place, peers, Aim(1 / 4, 1 / 6, NAME))


def load(place: Place) -> Table:
    """Pull a state_dict into the parameters of a module, with nothing of it in the cache."""
    with _peers(place) as (folder, site, mlflow, _):
        state_dict = weights.make_state_dict(place.size_bytes)
        shared = folder / "shared.pt"
        torch.save(state_dict, shared)
        with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
            hub.push(REFERENCE, state_dict)
        mlflow.spend("push", size_bytes=place.size_bytes, sync=place.sync)
        module = weights.make_module(place.size_bytes)

        def ours() -> Spent:
            with tempfile.TemporaryDirectory(dir=folder) as cache, site.client(Path(cache)) as hub:
                return timed(lambda: hub.load_into(REFERENCE, module), site.pid)

        peers = {
            OURS: ours,
            NAME: lambda: mlflow.spend("load", size_bytes=place.size_bytes),
            LOAD: lambda: timed(lambda: module.load_state_dict(torch.load(shared, weights_only=True))),
        }
        return _table("load", "Pull into the parameters of a module, cold", place, peers, Aim(1 / 5, 1 / 8, NAME))


@contextmanager
def _peers(place: Place) -> Iterator[tuple[Path, Site, Worker, Path]]:
    """Run the service and MLflow on a folder of the place; yield the folder, both, and MLflow's folder."""
    installed = Mlflow.installed(place.keep)
    with ExitStack() as until_the_end:
        folder = until_the_end.enter_context(scratch(place, "whole"))
        site = until_the_end.enter_context(serving(folder / "service"))
        server = until_the_end.enter_context(installed.serving(folder / "mlflow"))
        mlflow = until_the_end.enter_context(installed.client(server, folder))
        yield folder, site, mlflow, folder / "mlflow"


def _timed_anew(action: Callable[[], object], target: Path) -> Spent:
    """Return how many seconds it takes to make a file that is not there."""
    target.unlink(missing_ok=True)
    return timed(action)


def _table(row: str, title: str, place: Place, peers: Peers, aim: Aim) -> Table:
    found = alternate(peers, place.rounds, place.size_bytes)
    return Table(row, title, place.name, figures_of(found, place.size_bytes, {OURS: [aim], KEPT: [aim]}))
