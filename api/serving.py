"""Running the service under uvicorn: from the first check to the last running request."""

import asyncio
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.logs import configure_logging
from api.service import Service
from api.settings import Settings, check_exposure, read_settings

log = logging.getLogger("weighbridge.serve")


class DrainingServer(uvicorn.Server):
    """Says in `/readyz` that it stops, then lets the running requests finish."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._service.is_draining = True
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until a signal says stop.

    Raises:
        ConfigurationError: it would be unsafe or cannot work; nothing was started.
        CatalogUnavailableError, BlobStoreUnavailableError: what it needs does not answer.
    """
    check_exposure(settings)
    configure_logging(settings.log_level)
    if settings.workers > 1:
        Service.open(settings).close()  # say what is wrong once, not in every worker
        uvicorn.run("api.serving:create_worker_app", factory=True, workers=settings.workers, **_options(settings))
        return
    service = Service.open(settings)
    config = uvicorn.Config(create_app(settings, service), **_options(settings))
    log.info("Listening on http://%s:%s", settings.host, settings.port)
    DrainingServer(config, service).run()


def create_worker_app() -> FastAPI:
    """Return the app of one of several worker processes, by the environment that they share."""
    settings = read_settings()
    configure_logging(settings.log_level)
    return create_app(settings)


def _options(settings: Settings) -> dict[str, object]:
    return {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": settings.drain_seconds,
        "timeout_keep_alive": 30,
        "h11_max_incomplete_event_size": 64 << 10,
    }
