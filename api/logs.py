"""Logs as JSON, one line each, to standard error."""

import logging
import logging.config

from pythonjsonlogger.json import JsonFormatter


def configure_logging(level: str) -> None:
    """Send every logger's lines to standard error as JSON; the access lines are our own, not uvicorn's."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("weighbridge").setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True
