"""Where files of an export go, whatever a service calls them."""

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import hypothesis.strategies as st
import pytest
from hypothesis import given

from registry.errors import InvalidNameError, InvalidPathError
from registry.exporting.placing import place_files, place_models, require_inside
from registry.names import check_path

DIGEST = "sha256:" + "ab" * 32
PARTS = st.sampled_from(["a", "A", "b", "ä", "Ä", "a" * 255, "model.pt", "\u0130", "\u017f", "s"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


def test_files_lie_under_their_own_names():
    placed = place_files("net/3", {"model.pt": DIGEST, "sub/config.json": DIGEST})
    assert placed == {"model.pt": "net/3/model.pt", "sub/config.json": "net/3/sub/config.json"}


@given(st.sets(PATHS, max_size=8))
def test_no_two_files_are_one_on_any_file_system_nor_one_a_folder_of_the_other(paths):
    digests = {path: f"sha256:{number:064x}" for number, path in enumerate(sorted(paths))}

    placed = place_files("net/3", digests)

    folded = [unicodedata.normalize("NFC", each.casefold()) for each in placed.values()]
    assert placed.keys() == digests.keys()
    assert len(set(folded)) == len(folded)
    above = {str(parent) for each in folded for parent in PurePosixPath(each).parents}
    assert not above & set(folded)
    assert all(len(part.encode()) <= 255 for each in folded for part in each.split("/"))


@pytest.mark.parametrize("path", ["C:evil", "a:b", "sub/c:x", "CON", "nul.txt", "com1", "a.", "a ", "a./b", "what?"])
def test_what_is_no_file_on_windows_lies_under_its_digest(path):
    placed = place_files("net/3", {path: DIGEST})[path]
    assert placed == f"net/3~/{'ab' * 32}"
    assert (PureWindowsPath("out") / placed).is_relative_to("out")


def test_a_path_with_a_drive_is_not_inside():
    with pytest.raises(InvalidPathError, match="drive"):
        require_inside(PureWindowsPath("out"), "C:evil")


def test_the_longest_name_is_placed_where_an_import_takes_it():
    (placed,) = place_files(f"{'n' * 96}/{10**18}", {"/".join(["a" * 99] * 10): DIGEST}).values()
    assert check_path(placed) == placed


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\nb", "a\\b", "\ud800"])
def test_a_path_that_leads_out_is_refused(path):
    with pytest.raises(InvalidPathError):
        place_files("net/3", {path: DIGEST})


def test_models_that_differ_in_case_and_those_called_like_other_files_get_folders_of_their_own():
    placed = place_models(["net", "Net", "NET", "sha256sums", "weighbridge.json"])
    assert placed["NET"] == "NET"
    assert {placed["Net"], placed["net"]} == {"Net~2", "net~3"}
    assert (placed["sha256sums"], placed["weighbridge.json"]) == ("sha256sums~2", "weighbridge.json~2")


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "/etc"])
def test_a_model_whose_name_is_none_is_refused(name):
    with pytest.raises(InvalidNameError):
        place_models(["net", name])
