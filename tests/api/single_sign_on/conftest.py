"""An identity provider of the tests' own, for people and for jobs."""

import pytest
from identity_issuer import running_issuer


@pytest.fixture
def issuer():
    with running_issuer() as issuer:
        yield issuer
