"""Loading: what a reference or file holds, into a module; everything is fetched and verified before the first copy."""

import glob
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from registry.client.check import CheckWishes, Weights, compare_weights, find_architecture
from registry.client.connection import Connection
from registry.client.gathering import Wanted, use_artifacts
from registry.client.glue import import_load, import_load_built, import_load_into
from registry.client.pull import warn_deprecated
from registry.compat.load_plan import LoadPlan, LoadWishes, make_plan
from registry.errors import InvalidRequestError
from registry.pieces import WeightFile
from registry.state_dict import EmaPartWarning

if TYPE_CHECKING:
    from collections import OrderedDict

    from registry.compat.loaded import LoadResult


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What a caller says about a load; see `Client.load_into` and `Client.load_backbone`."""

    compared: CheckWishes = field(default_factory=CheckWishes)
    allowed: LoadWishes = field(default_factory=LoadWishes)
    device: Any = None
    dtype: Any = None
    assign: bool = False
    into: str = ""
    freeze: bool = False


def load_into(
    connection: Connection, ref: str | os.PathLike[str], module: object, options: LoadOptions
) -> "LoadResult":
    """Fill a module, or the submodule that the options name, with a reference or local file.

    Raises:
        WeighbridgeError: see `Client.load_into`; the module is as it was.
    """
    options.allowed.check()
    engine = import_load_into()
    placing = engine.Placing.of(
        assign=options.assign, device=options.device, dtype=options.dtype, cast=options.allowed.cast
    )
    part = engine.find_submodule(module, options.into)
    source = find_architecture(connection, ref, options.compared.part)
    _warn_deprecated(source)
    return _fill(connection, source, part, options, placing)


def load(
    connection: Connection,
    ref: str | os.PathLike[str],
    builder: object,
    options: LoadOptions,
    *,
    trust_builder: bool,
) -> Any:
    """Return the module of a reference or local file, built and filled.

    Raises:
        WeighbridgeError: see `Client.load`.
    """
    built = import_load_built()
    engine = import_load_into()
    placing = engine.Placing.of(assign=True, device=options.device, dtype=options.dtype, cast=options.allowed.cast)
    source = find_architecture(connection, ref, options.compared.part)
    _warn_deprecated(source)
    chosen = builder if builder is not None else source.builder
    if chosen is None:
        raise InvalidRequestError(
            f"Nothing says how the module of {source.name} is built. Say it: builder=MyNet (a class or function), or "
            'builder="torchvision.models:resnet50". Or build it yourself, and `load_into(ref, module)`.'
        )
    module = built.build_module(chosen, source.builder, trust_builder=trust_builder)
    _fill(connection, source, module, options, placing)
    return built.settle(module, placing)


def _fill(connection: Connection, source: Weights, module: object, options: LoadOptions, placing: Any) -> "LoadResult":
    engine = import_load_into()
    report = compare_weights(source, module, options.compared)
    target = engine.architecture_of(module)
    plan = make_plan(report, source.architecture, target, options.allowed)
    filling = engine.Filling(module, target, plan, placing, freezes=options.freeze, keeps_head=not options.into)
    names = None if engine.has_own_code(module, plan.loaded) else frozenset(plan.loaded.values())
    state_dict = _read(connection, source, options.compared.part, plan, names)
    given = filling.prepare(source.architecture, state_dict)
    return cast("LoadResult", filling.fill(given))


def _warn_deprecated(source: Weights) -> None:
    if source.version is not None:
        warn_deprecated(source.version, stacklevel=5)


def _read(
    connection: Connection, source: Weights, part: str | None, plan: LoadPlan, names: frozenset[str] | None
) -> "OrderedDict[str, Any]":
    """Return the state_dict, or these names of it, without entries that nothing takes: some cannot be restored."""
    load = import_load()
    used = set(plan.loaded.values())
    unused = [glob.escape(name) for name in source.architecture.entries if name not in used]

    def read(files: Sequence[WeightFile]) -> "OrderedDict[str, Any]":
        with warnings.catch_warnings():
            # It was said when the weights were compared.
            warnings.simplefilter("ignore", EmaPartWarning)
            return load.load_state_dict(files, part=part, exclude=unused, names=names)

    if source.version is None:
        return read([path for path, _ in source.files])
    wanted = Wanted(part, exclude=unused, names=names)
    return use_artifacts(connection, source.version, source.artifacts, wanted, read)


def as_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return names or globs as a tuple; a single one may be given as it is."""
    return (given,) if isinstance(given, str) else tuple(given)
