"""One guarded service with two teams for all tests of attacks; each works on names of its own."""

import pytest
from attacks import ROOT, serving, settle


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    with serving(
        tmp_path_factory.mktemp("site"), teams="true", token=ROOT, log_level="DEBUG", requests_per_minute="0"
    ) as site:
        settle(site)
        yield site


@pytest.fixture(scope="session")
def open_site(tmp_path_factory):
    """A service that asks for no token, as on a laptop."""
    with serving(tmp_path_factory.mktemp("open")) as site:
        yield site
