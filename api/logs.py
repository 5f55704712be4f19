"""Logs as JSON, one line each, to standard error, with no secret in any."""

import logging
from collections.abc import Collection

from pythonjsonlogger.json import JsonFormatter

from api.hiding import hide_secrets
from api.middleware import current_request_id


class RequestIdFilter(logging.Filter):
    """Puts the id of the request that is being answered on every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take every line."""
        request_id = current_request_id.get()
        if request_id is not None:
            record.request_id = request_id
        return True


class HidingFormatter(JsonFormatter):
    """Writes a line, whatever is in it, without secrets: tokens end up in paths, and in what libraries say of them."""

    secrets: Collection[str] = ()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return hide_secrets(super().format(record), self.secrets)


def configure_logging(level: str, secrets: Collection[str] = ()) -> None:
    """Send every logger's lines to standard error as JSON; the access lines are our own, not uvicorn's.

    Args:
        level: what of our own is logged at least.
        secrets: what must be in no line, beside tokens.
    """
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    formatter = HidingFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
    )
    formatter.secrets = secrets
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("weighbridge").setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
