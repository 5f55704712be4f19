"""The app: routes, failures, and what goes around every request."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from api import health
from api.collector import collecting
from api.deps import get_caller
from api.errors import add_error_handlers
from api.measures import Measures
from api.middleware import OpenHostMiddleware, RequestMiddleware
from api.planned import Completions
from api.resolving import ResolvingMiddleware
from api.responses import COMMON_FAILURES, document, problems
from api.routes import (
    aliases,
    artifacts,
    audit,
    compatibility,
    info,
    lineage,
    models,
    planned,
    projections,
    reads,
    sign_in,
    teams,
    tokens,
    uploads,
    users,
    versions,
)
from api.service import Service
from api.settings import Settings, check_exposure
from api.version import VERSION

PREFIX = "/api/v1"
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """Return the service as an ASGI app; it opens its stores when it starts, and closes them when it stops.

    Args:
        settings: of the installation.
        service: already open; else the app opens it.

    Raises:
        ConfigurationError: the settings would let everybody in.
    """
    check_exposure(settings)
    app = FastAPI(
        title="Weighbridge",
        version=VERSION,
        summary="A PyTorch model registry that looks into every weight file without running it.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # curl does not follow them and would call a push that stored nothing a success
    )
    app.state.settings = settings
    app.state.service = service
    app.state.measures = Measures()
    app.state.is_draining = False
    # Every route asks who calls; here too, so that none can forget. Only who signs in is not known yet.
    common: dict[str, Any] = {"dependencies": [Depends(get_caller)], "responses": problems(*COMMON_FAILURES)}
    app.include_router(info.router, **common)
    of_models = (models, uploads, planned, versions, artifacts, projections, reads, aliases, compatibility, lineage)
    for module in (*of_models, teams, users, tokens, sign_in, audit):
        app.include_router(module.router, prefix=PREFIX, **common)
    app.include_router(planned.parts, prefix=PREFIX, **common)
    app.include_router(sign_in.browsers, prefix=PREFIX)
    app.include_router(health.router)
    _add_docs(app)
    document(app)
    add_error_handlers(app)
    app.add_middleware(ResolvingMiddleware, prefix=PREFIX)
    if settings.is_open:
        further = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
        app.add_middleware(OpenHostMiddleware, hosts=_LOOPBACK_NAMES | further | {settings.host.lower()})
    app.add_middleware(RequestMiddleware, measures=app.state.measures)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    given: Service | None = app.state.service
    service = given or await run_in_threadpool(Service.open, app.state.settings)
    app.state.service = service
    try:
        app.state.completions = completions = Completions(service, app.state.measures)
        async with collecting(service, app.state.measures):
            yield
        await completions.close()
    finally:
        app.state.service = given
        await run_in_threadpool(service.close)


def _add_docs(app: FastAPI) -> None:
    """Serve the interactive documentation from files of this machine: it works without the internet."""
    files = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/files", StaticFiles(directory=files), name="docs-files")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:  # pyright: ignore[reportUnusedFunction] - the app calls it
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Weighbridge",
            swagger_js_url="/docs/files/swagger-ui-bundle.js",
            swagger_css_url="/docs/files/swagger-ui.css",
            swagger_favicon_url="/docs/files/favicon.png",
        )
