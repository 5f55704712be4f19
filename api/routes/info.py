"""Who answers: version, capabilities and limits."""

from fastapi import APIRouter

from api.deps import CallerDep, ServiceDep
from api.needs import needs
from api.version import VERSION
from registry.schema import ServiceInfo
from storage.read import get_registry_id

router = APIRouter(tags=["service"])
CAPABILITIES = [
    *("one-shot-upload", "ranges", "aliases", "annotations", "manifests", "idempotency-keys", "teams"),
    *("reads", "planned-uploads", "delta-uploads", "claimed-tiles"),
]


@router.get("/api/v1", operation_id="get_service_info", **needs(None))
def get_service_info(service: ServiceDep, caller: CallerDep) -> ServiceInfo:
    """Return the service's version, capabilities and limits."""
    return ServiceInfo(
        version=VERSION,
        registry_id=get_registry_id(service.stores, caller),
        capabilities=CAPABILITIES,
        limits=service.stores.limits,
        default_team=service.settings.open_team,
        sign_in=service.provider and service.provider.sign_in_url,
    )
