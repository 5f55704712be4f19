import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidNameError, InvalidPathError, InvalidReferenceError, WeighbridgeError
from registry.names import MAX_PATH_LENGTH, Reference, check_alias, check_name, check_path, check_paths, check_team

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize("name", ["resnet50", "a", "ViT-B_16.v2", "x" * 96, "7", "_hidden"])
def test_names_that_every_client_can_address_pass(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 97, "a--b", "a..b", "-a", "a-", ".a", "a.", "repo.git", "a/b", "a b", "ünïcode", "a\n", "a\x00", "a%2f"],
)
def test_names_that_some_client_cannot_address_are_refused(name):
    with pytest.raises(InvalidNameError, match="use 1 to 96"):
        check_name(name)


@pytest.mark.parametrize("name", ["api", "UI", "v2", "datasets", "Healthz"])
def test_a_team_is_never_called_like_a_part_of_another_clients_url(name):
    with pytest.raises(InvalidNameError, match="reserved"):
        check_team(name)


@pytest.mark.parametrize("name", ["latest", "main", "3", "v3", "v0012"])
def test_an_alias_never_looks_like_a_version(name):
    with pytest.raises(InvalidNameError):
        check_alias(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vision/resnet50", Reference("vision", "resnet50")),
        ("vision/resnet50:3", Reference("vision", "resnet50", version=3)),
        ("vision/resnet50:v3", Reference("vision", "resnet50", version=3)),
        ("vision/resnet50:latest", Reference("vision", "resnet50")),
        ("vision/resnet50@prod", Reference("vision", "resnet50", alias="prod")),
        (f"vision/resnet50@{DIGEST}", Reference("vision", "resnet50", digest=DIGEST)),
        ("vision/resnet50:3/sub/model.pt", Reference("vision", "resnet50", version=3, path="sub/model.pt")),
        ("vision/resnet50/model.pt", Reference("vision", "resnet50", path="model.pt")),
        ("vision/resnet50:3/odd@name:x.pt", Reference("vision", "resnet50", version=3, path="odd@name:x.pt")),
        ("resnet50:3", Reference(None, "resnet50", version=3)),
    ],
)
def test_references_are_read_as_the_design_writes_them(text, expected):
    assert Reference.parse(text) == expected


def test_a_bare_name_takes_the_callers_team():
    assert Reference.parse("resnet50@prod", team="vision") == Reference("vision", "resnet50", alias="prod")


def test_an_alias_after_a_colon_is_answered_with_what_was_meant():
    with pytest.raises(InvalidReferenceError, match="Did you mean `vision/resnet50@prod`"):
        Reference.parse("vision/resnet50:prod")


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/b/c:1", "a/", "/b", "a:0", "a:9999999999999999999", "a@", "a:", "a@v3", "a:1/", "a@main", "a b"],
)
def test_what_is_no_reference_is_refused_by_name(text):
    with pytest.raises((InvalidReferenceError, InvalidNameError, InvalidPathError)):
        Reference.parse(text)


@given(st.text())
def test_any_text_is_a_reference_or_a_named_error(text):
    try:
        reference = Reference.parse(text)
    except WeighbridgeError:
        return
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "path", ["model.pt", "a/b/c.json", "ü/模型.pt", "with space.txt", "...", "x" * MAX_PATH_LENGTH]
)
def test_relative_paths_pass(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\\b", "a\x00", "a\nb", "x" * 1001, "\ud800"]
)
def test_paths_that_leave_the_version_or_break_terminals_are_refused(path):
    with pytest.raises(InvalidPathError):
        check_path(path)


def test_paths_are_kept_in_nfc():
    assert check_path("u\u0308.pt") == "\u00fc.pt"


def test_two_paths_that_differ_in_case_only_are_refused():
    with pytest.raises(InvalidPathError, match="ignore case"):
        check_paths(["Model.pt", "model.PT"])
