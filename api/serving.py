"""Running the service under uvicorn: from the first check to the last running request."""

import gc
import logging
import os
import socket
import time
from types import FrameType
from typing import Any

import click
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.connection import PatientProtocol
from api.hiding import secrets_of
from api.logs import configure_logging
from api.service import Service
from api.settings import Settings, as_variables, check_exposure, read_settings
from registry.errors import ConfigurationError
from storage.tokens import make_first_administrator

KEEP_ALIVE_SECONDS = 30
_BACKLOG = 2048
_COLLECT_AFTER = 20_000
"""New objects: a comparison of two networks makes some thousand, hardly any of them in a cycle."""

log = logging.getLogger("weighbridge.serve")


class DrainingServer(uvicorn.Server):
    """Told to stop, it says so in `/readyz`, and goes when the running requests are done or their time is up.

    Until then it keeps listening: a load balancer must be able to see the 503 that keeps new requests away.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal stops at once."""
        del sig, frame
        self._app.state.is_draining = True
        if self._deadline is None:
            self._deadline = time.monotonic() + self._drain_seconds
        else:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to go; asked ten times a second."""
        if await super().on_tick(counter):
            return True
        if self._deadline is None:
            return False
        left = self._deadline - time.monotonic()
        self.config.timeout_graceful_shutdown = max(1, int(left))
        return left <= 0 or not self._app.state.measures.running


def serve(settings: Settings) -> None:
    """Serve until a signal says stop.

    Raises:
        ConfigurationError: it would be unsafe or cannot work; nothing was started.
        CatalogUnavailableError, BlobStoreUnavailableError: what it needs does not answer.
    """
    check_exposure(settings)
    configure_logging(settings.log_level, secrets_of(settings))
    service = Service.open(settings)
    _announce_first_administrator(service)
    if settings.workers > 1:
        service.close()  # opened to say what is wrong once, not in every worker
        _serve_by_many(settings)
        return
    listener = _listen(settings.host, settings.port)
    app = create_app(settings, service)
    _calm_collector()
    config = uvicorn.Config(app, backlog=_BACKLOG, **server_options(settings))
    url = _url(settings.host, listener.getsockname()[1])
    log.info("Weighbridge listens on %s and is described at %s/docs", url, url, extra={"url": url})
    DrainingServer(config, app, settings.drain_seconds).run([listener])
    log.info("Weighbridge has stopped")


def _announce_first_administrator(service: Service) -> None:
    """Tell the first start's token to whoever starts the service; never to the log, which others read."""
    if not service.settings.teams or service.settings.token is not None:
        return
    first = make_first_administrator(service.stores)
    if first is not None:
        click.echo(
            f"The first token of this installation, for its administrator; it is told only now:\n\n    {first.token}\n",
            err=True,
        )


def create_worker_app() -> FastAPI:
    """Return the app of one of several worker processes, by the environment that they share."""
    settings = read_settings()
    configure_logging(settings.log_level, secrets_of(settings))
    app = create_app(settings)
    _calm_collector()
    return app


def _calm_collector() -> None:
    """Let Python's collector of cycles look at what requests make, and not again and again at what was there before."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def _serve_by_many(settings: Settings) -> None:
    os.environ.update(as_variables(settings))
    url = _url(settings.host, settings.port)
    log.info("Weighbridge listens on %s with %s processes", url, settings.workers, extra={"url": url})
    uvicorn.run(
        "api.serving:create_worker_app",
        factory=True,
        workers=settings.workers,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=settings.drain_seconds,
        **server_options(settings),
    )


def server_options(settings: Settings) -> dict[str, Any]:
    """Return what uvicorn is told in any case."""
    return {
        "http": PatientProtocol,
        "ws": "none",  # it would answer past every middleware
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": min(KEEP_ALIVE_SECONDS, settings.idle_seconds),
    }


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: the address is taken, or not this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Nobody can listen on {host}:{port}: {error.strerror}. Is another service there? Choose another "
            "WEIGHBRIDGE_PORT, or 0 for a free one."
        ) from error


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
