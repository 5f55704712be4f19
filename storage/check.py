"""Comparing one version with an architecture that somebody sent."""

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.compat.rename_map import Prefix, Rename
from registry.compat.report import CompatibilityReport
from registry.module_info import PretrainedConfig
from storage.access import Action, Caller
from storage.admission import admit
from storage.architectures import check_bounds
from storage.stores import Stores


def check_version(  # noqa: PLR0917 - a version is named by three words
    stores: Stores,
    caller: Caller,
    team: str,
    model: str,
    selector: str,
    target: Architecture,
    *,
    path: str | None = None,
    part: str | None = None,
    prefix: Prefix = "auto",
    rename: Rename | None = None,
    classifier: list[str] | None = None,
    first_conv: list[str] | None = None,
) -> CompatibilityReport:
    """Return what loading a version's state_dict into an architecture would do.

    `classifier` and `first_conv` are what the version recorded unless they are given.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        NoWeightsError, AmbiguousWeightsError: none, or several, could be meant.
        TooLargeError, InvalidMetadataError: one side is larger than the service compares.
        AmbiguousPrefixError, InvalidRequestError: see `compare`.
    """
    admit(stores, caller, Action.READ, team, model)
    check_bounds(target)
    version = stores.catalog.get_version(team, model, selector)
    manifests = stores.catalog.get_manifests(team, model, str(version.number), path)
    source = Architecture.join([Architecture.from_manifest(each.manifest, part) for each in manifests])
    check_bounds(source)
    recorded = version.pretrained_cfg or PretrainedConfig()
    report = compare(
        source,
        target,
        prefix=prefix,
        rename=rename,
        classifier=recorded.classifier if classifier is None else classifier,
        first_conv=recorded.first_conv if first_conv is None else first_conv,
    )
    report.source = version.reference if path is None else f"{version.reference}/{path}"
    return report
