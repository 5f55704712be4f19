"""Judging received files: which are weights, what loading them would do, and whether such files are taken."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from registry.errors import MalformedArtifactError, UnsafeArtifactError, WeighbridgeError
from registry.formats.inspection import Inspection
from registry.formats.mentions import list_globals, list_reasons, name_some
from registry.formats.reader import looks_like_weights
from registry.weights import has_weights_name
from storage.admission import reaches
from storage.push import Push, Received
from storage.sources import BlobSource
from storage.stores import Stores

DISTRIBUTED_REASON = "A distributed checkpoint is opened by unpickling; what is in it is not read yet."


@dataclass(frozen=True, slots=True)
class PushRules:
    """What is taken of somebody's push.

    Attributes:
        no_code: why nothing is taken that runs code when it is loaded; None where it is.
        keeps_unsafe: whether files that would do harm are kept, in quarantine, instead of refused.
    """

    no_code: str | None = None
    keeps_unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What the readers found: what weight files hold, and why files that are kept in quarantine would do harm."""

    inspections: dict[str, Inspection] = field(default_factory=dict[str, Inspection])
    harmful: dict[str, UnsafeArtifactError] = field(default_factory=dict[str, UnsafeArtifactError])


def find_rules(push: Push) -> PushRules:
    """Return what the installation and the team take of a push."""
    team = push.stores.catalog.find_team(push.team)
    keeps_unsafe = team is not None and team.unsafe == "quarantine"
    if not push.stores.allow_code:
        return PushRules("this installation takes tensors only", keeps_unsafe)
    if team is None or reaches(push.caller, push.team, team.code_pushed_by):
        return PushRules(None, keeps_unsafe)
    if team.code_pushed_by is None:
        return PushRules(f"{push.team} takes tensors only", keeps_unsafe)
    return PushRules(f"{push.team} takes that from those with the role `{team.code_pushed_by}` only", keeps_unsafe)


def judge(
    stores: Stores,
    received: Sequence[Received],
    distributed: Collection[str],
    rules: PushRules,
    beat: Callable[[], None],
) -> Judged:
    """Read every file that is or should be weights.

    Args:
        stores: where the bytes are, and who reads them.
        received: the files.
        distributed: those that belong to a distributed checkpoint, which is not read yet.
        rules: what is taken.
        beat: called before each file.

    Raises:
        MalformedArtifactError: weights that cannot be read strictly.
        UnsafeArtifactError: loading one would do harm, or runs code, and such files are not taken.
    """
    judged = Judged()
    for each in received:
        beat()
        try:
            inspection = _read(stores, each, is_only=len(received) == 1, is_distributed=each.path in distributed)
        except UnsafeArtifactError as error:
            if not rules.keeps_unsafe:
                raise
            judged.harmful[each.path] = error
            continue
        _refuse_code(each, inspection, rules, is_distributed=each.path in distributed)
        if inspection is not None:
            judged.inspections[each.path] = inspection
    return judged


def _read(stores: Stores, received: Received, *, is_only: bool, is_distributed: bool) -> Inspection | None:
    """Return what a weight file holds, None for a file that is no weights, or none that are read yet."""
    if is_distributed:
        with suppress(MalformedArtifactError):
            _inspect(stores, received, is_only=True)
        return None
    return _inspect(stores, received, is_only=is_only)


def _inspect(stores: Stores, received: Received, *, is_only: bool) -> Inspection | None:
    says_weights = has_weights_name(received.path) or looks_like_weights(received.head)
    if not (is_only or says_weights):
        return None
    try:
        inspection = stores.scanner.scan(BlobSource(stores.blobs, received.location, received.size_bytes))
    except (MalformedArtifactError, UnsafeArtifactError) as error:
        if not says_weights:
            error.detail += " A file that is no weights is taken together with the weights that it belongs to."
        raise name_file(error, received.path) from error
    if inspection.trust == "unsafe":
        raise UnsafeArtifactError(
            f"{received.path}: loading this file would do harm, so nothing was stored. It refers to "
            f"{name_some(inspection.foreign_globals) or 'what no weights need'}. Do not open it anywhere.",
            path=received.path,
            **tell_why(inspection.foreign_globals, inspection.reasons),
        )
    return inspection


def _refuse_code(received: Received, inspection: Inspection | None, rules: PushRules, *, is_distributed: bool) -> None:
    runs_code = is_distributed or (inspection is not None and inspection.trust == "code")
    if rules.no_code is None or not runs_code:
        return
    names = [] if inspection is None else inspection.foreign_globals
    reasons = [DISTRIBUTED_REASON] if inspection is None else inspection.reasons
    raise UnsafeArtifactError(
        f"{received.path} runs code when it is loaded, and {rules.no_code}. Push its state_dict instead, best as "
        "safetensors.",
        path=received.path,
        **tell_why(names, reasons),
    )


def tell_why(names: Sequence[str], reasons: Sequence[str]) -> dict[str, Any]:
    """Return what is told of a file: bounded, for a file may refer to as much as it likes."""
    return {"globals": list_globals(names), "global_count": len(names), "reasons": list_reasons(reasons)}


def name_file(error: WeighbridgeError, path: str) -> WeighbridgeError:
    """Return the error of a reader with the file's name, and no more of it than is told."""
    told = {"path": path, **error.extra}
    if "globals" in told:
        told |= tell_why(told["globals"], told.get("reasons", []))
    return type(error)(f"{path}: {error.detail} Nothing was stored.", **told)
