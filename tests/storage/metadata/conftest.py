"""Every test of the catalog runs on SQLite and on PostgreSQL, each time in a clean, migrated database."""

import shutil

import pytest

from storage.metadata.catalog import Catalog
from storage.metadata.migrate import upgrade


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    file = tmp_path_factory.mktemp("catalog") / "template.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_template(postgres):
    with postgres.new_database() as name:
        upgrade(postgres.url(name))
        yield name


@pytest.fixture
def sqlite_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "catalog.db")
    return f"sqlite:///{tmp_path / 'catalog.db'}"


@pytest.fixture
def postgres_url(postgres, postgres_template):
    with postgres.new_database(template=postgres_template) as name:
        yield postgres.url(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    """A migrated, empty database."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def catalog(database_url):
    catalog = Catalog.open(database_url)
    yield catalog
    catalog.close()
