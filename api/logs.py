"""Logs as JSON, one line each, to standard error, with no secret in any."""

import json
import logging
from collections.abc import Collection
from datetime import UTC, datetime

from pythonjsonlogger.json import JsonFormatter

from api.hiding import hide_secrets
from api.middleware import ACCESS_FIELDS, access_log, current_request_id

_encode = json.JSONEncoder().encode


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
        line = _access_line(record) if record.name == access_log.name else super().format(record)
        return hide_secrets(line, self.secrets)


def _access_line(record: logging.LogRecord) -> str:
    """Return the line of a request: what `JsonFormatter` makes of it, without looking for what may stand in others."""
    document = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
    document |= {name: record.__dict__[name] for name in ACCESS_FIELDS if name in record.__dict__}
    return _encode(document | {"timestamp": datetime.fromtimestamp(record.created, UTC).isoformat()})


def make_formatter(secrets: Collection[str]) -> HidingFormatter:
    """Return what writes lines in which these secrets are not."""
    formatter = HidingFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
    )
    formatter.secrets = secrets
    return formatter


def configure_logging(level: str, secrets: Collection[str] = ()) -> None:
    """Send every logger's lines to standard error as JSON; the access lines are our own, not uvicorn's.

    Args:
        level: what of our own is logged at least.
        secrets: what must be in no line, beside tokens.
    """
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(make_formatter(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("weighbridge").setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
