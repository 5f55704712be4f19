"""The version of what runs."""

from importlib.metadata import PackageNotFoundError, version


def _find_version() -> str:
    try:
        return version("weighbridge")
    except PackageNotFoundError:  # a checkout that nobody installed
        return "0"


VERSION = _find_version()
