"""Weighbridge, a PyTorch model registry: `from weighbridge import Client`.

Everything here is imported when it is first used, so `import weighbridge` is cheap and needs neither PyTorch nor a
server package.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import version as _version

    from registry.client.client import Client
    from registry.client.examine import inspect_path as inspect
    from registry.client.finetuning import FineTune, apply_recipe, freeze, unfreeze
    from registry.client.pull import DeprecatedVersionWarning
    from registry.client.push import SkippedFilesWarning
    from registry.compat.loaded import LoadResult
    from registry.compat.report import CompatibilityReport
    from registry.errors import (
        AccessError,
        AliasNotFoundError,
        AmbiguousPrefixError,
        AmbiguousWeightsError,
        ArtifactError,
        ArtifactNotFoundError,
        AuthenticationRequiredError,
        ConfigurationError,
        ConflictError,
        DigestMismatchError,
        EmptyArtifactError,
        IdentityNotFoundError,
        IdentityProviderUnavailableError,
        InvalidMetadataError,
        InvalidNameError,
        InvalidPathError,
        InvalidReferenceError,
        InvalidRequestError,
        LimitError,
        MalformedArtifactError,
        ModelNotFoundError,
        NotDeletedError,
        NotFoundError,
        NotProjectableError,
        NoWeightsError,
        OfflineError,
        PermissionDeniedError,
        PreconditionFailedError,
        ServerUnreachableError,
        SizeMismatchError,
        StateDictMismatchError,
        StorageFullError,
        TeamExistsError,
        TeamNotFoundError,
        TokenNotFoundError,
        TooLargeError,
        TrustCodeRequiredError,
        UnavailableError,
        UnsafeArtifactError,
        UnsupportedValueError,
        UserExistsError,
        UserNotFoundError,
        VersionInUseError,
        VersionNotFoundError,
        WeighbridgeError,
    )
    from registry.formats.inspection import Inspection
    from registry.identities import IdentityInfo
    from registry.lineage.documents import Lineage, VersionDiff
    from registry.module_info import Builder, Origin, PretrainedConfig, Recipe
    from registry.names import Reference
    from registry.schema import (
        AliasInfo,
        AliasMove,
        Annotations,
        ArtifactInfo,
        ModelInfo,
        ServiceInfo,
        VersionInfo,
    )
    from registry.teams import (
        AuditEntry,
        MemberInfo,
        NewToken,
        Role,
        Scope,
        TeamInfo,
        TokenInfo,
        UserInfo,
        WhoAmI,
    )
    from registry.usage import ModelStorage, TeamStorage

    __version__ = _version("weighbridge")

__all__ = [
    "AccessError",
    "AliasInfo",
    "AliasMove",
    "AliasNotFoundError",
    "AmbiguousPrefixError",
    "AmbiguousWeightsError",
    "Annotations",
    "ArtifactError",
    "ArtifactInfo",
    "ArtifactNotFoundError",
    "AuditEntry",
    "AuthenticationRequiredError",
    "Builder",
    "Client",
    "CompatibilityReport",
    "ConfigurationError",
    "ConflictError",
    "DeprecatedVersionWarning",
    "DigestMismatchError",
    "EmptyArtifactError",
    "FineTune",
    "IdentityInfo",
    "IdentityNotFoundError",
    "IdentityProviderUnavailableError",
    "Inspection",
    "InvalidMetadataError",
    "InvalidNameError",
    "InvalidPathError",
    "InvalidReferenceError",
    "InvalidRequestError",
    "LimitError",
    "Lineage",
    "LoadResult",
    "MalformedArtifactError",
    "MemberInfo",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelStorage",
    "NewToken",
    "NoWeightsError",
    "NotDeletedError",
    "NotFoundError",
    "NotProjectableError",
    "OfflineError",
    "Origin",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "PretrainedConfig",
    "Recipe",
    "Reference",
    "Role",
    "Scope",
    "ServerUnreachableError",
    "ServiceInfo",
    "SizeMismatchError",
    "SkippedFilesWarning",
    "StateDictMismatchError",
    "StorageFullError",
    "TeamExistsError",
    "TeamInfo",
    "TeamNotFoundError",
    "TeamStorage",
    "TokenInfo",
    "TokenNotFoundError",
    "TooLargeError",
    "TrustCodeRequiredError",
    "UnavailableError",
    "UnsafeArtifactError",
    "UnsupportedValueError",
    "UserExistsError",
    "UserInfo",
    "UserNotFoundError",
    "VersionDiff",
    "VersionInUseError",
    "VersionInfo",
    "VersionNotFoundError",
    "WeighbridgeError",
    "WhoAmI",
    "__version__",
    "apply_recipe",
    "freeze",
    "inspect",
    "unfreeze",
]

_HOMES = {
    "Client": "registry.client.client",
    "DeprecatedVersionWarning": "registry.client.pull",
    "SkippedFilesWarning": "registry.client.push",
    "CompatibilityReport": "registry.compat.report",
    "LoadResult": "registry.compat.loaded",
    "IdentityInfo": "registry.identities",
    "Inspection": "registry.formats.inspection",
    "Reference": "registry.names",
    **dict.fromkeys(["FineTune", "apply_recipe", "freeze", "unfreeze"], "registry.client.finetuning"),
    **dict.fromkeys(["ModelStorage", "TeamStorage"], "registry.usage"),
    **dict.fromkeys(["Lineage", "VersionDiff"], "registry.lineage.documents"),
    **dict.fromkeys(["Builder", "Origin", "PretrainedConfig", "Recipe"], "registry.module_info"),
    **dict.fromkeys(
        ["AliasInfo", "AliasMove", "Annotations", "ArtifactInfo", "ModelInfo", "ServiceInfo", "VersionInfo"],
        "registry.schema",
    ),
    **dict.fromkeys(
        ["AuditEntry", "MemberInfo", "NewToken", "Role", "Scope", "TeamInfo", "TokenInfo", "UserInfo", "WhoAmI"],
        "registry.teams",
    ),
}


def _refuse_a_stranger() -> None:
    """Raise when `import registry` would find something else than the package that came with this one."""
    ours = Path(__file__).parent.parent / "registry" / "__init__.py"
    found = importlib.util.find_spec("registry")
    place = found.origin if found is not None else None
    if not ours.exists() or (place is not None and Path(place).resolve() == ours.resolve()):
        return
    what = place or (list(found.submodule_search_locations or ())[:1] or ["nothing"])[0] if found else "nothing"
    raise ImportError(
        f"`import registry` finds {what}, which hides the package `registry` that belongs to weighbridge. Rename that "
        "file or folder, or start Python from another folder."
    )


_refuse_a_stranger()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("weighbridge")
    elif name == "inspect":
        from registry.client.examine import inspect_path as value
    elif name in __all__:
        value = getattr(importlib.import_module(_HOMES.get(name, "registry.errors")), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
