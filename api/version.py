"""The version of what runs."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("weighbridge")
except PackageNotFoundError:  # a checkout that nobody installed
    VERSION = "0"
