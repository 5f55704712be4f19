"""Checking an installation: what the rows say against what is stored. It may be served meanwhile."""

from collections.abc import Iterator

from storage.access import Action, Caller
from storage.admission import admit
from storage.checking.findings import Finding
from storage.checking.keys import check_keys
from storage.checking.objects import check_objects
from storage.checking.recorded import check_records
from storage.checking.rows import check_rows
from storage.stores import Stores


def fsck(stores: Stores, caller: Caller, *, reads_bytes: bool = False, repairs: bool = False) -> Iterator[Finding]:
    """Yield what is wrong, as it is found; memory does not grow with the number of versions.

    Args:
        stores: of the installation.
        caller: who asks.
        reads_bytes: read every object and compare it with its SHA-256, and records and manifests with the rows.
        repairs: mark damaged objects, so that nothing is read from them and the same bytes take their place when they
            come again; write missing records again. Nothing is deleted.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        BlobStoreUnavailableError, CatalogUnavailableError: one does not answer, so that nothing can be said.
    """
    admit(stores, caller, Action.ADMINISTER)
    return _check(stores, caller, reads_bytes=reads_bytes, repairs=repairs)


def _check(stores: Stores, caller: Caller, *, reads_bytes: bool, repairs: bool) -> Iterator[Finding]:
    found = repaired = 0
    checks = (
        check_rows(stores, reads_manifests=reads_bytes),
        check_objects(stores, reads_bytes=reads_bytes, repairs=repairs),
        check_keys(stores),
        check_records(stores, reads_bytes=reads_bytes, repairs=repairs),
    )
    for check in checks:
        for finding in check:
            found += 1
            repaired += finding.repair is not None
            yield finding
    if repairs:
        stores.catalog.note(caller.actor, "installation.repair", findings=found, repaired=repaired)
