"""Logs as JSON, one line each, to standard error."""

import logging

from pythonjsonlogger.json import JsonFormatter

from api.middleware import current_request_id


class RequestIdFilter(logging.Filter):
    """Puts the id of the request that is being answered on every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take every line."""
        request_id = current_request_id.get()
        if request_id is not None:
            record.request_id = request_id
        return True


def configure_logging(level: str) -> None:
    """Send every logger's lines to standard error as JSON; the access lines are our own, not uvicorn's."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
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
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
