"""The files that mutations start from, made once."""

import pytest

from fuzzing.seeds import build_seeds, save_seeds


@pytest.fixture(scope="session")
def seeds():
    """Names and bytes."""
    return build_seeds()


@pytest.fixture(scope="session")
def seed_folder(tmp_path_factory):
    """The same as files."""
    folder = tmp_path_factory.mktemp("seeds")
    save_seeds(folder)
    return folder
