"""Paths that lead elsewhere, in every place where a request has a name: nothing outside is read, made or changed."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from attacks import OPERATIONS, ROOT, content_of, fill, form, parameters_of, serving
from embedded import API, make_weights

CANARY = "what-nobody-may-read"
DEEP = "../" * 12
ODD = {
    "dots": "..",
    "dots, encoded": "%2e%2e",
    "dots, encoded twice": "%252e%252e",
    "one dot": ".",
    "up": DEEP + "etc/passwd",
    "up, encoded": "..%2f" * 12 + "etc%2fpasswd",
    "up, encoded twice": "..%252f" * 12 + "etc%252fpasswd",
    "up, with backslashes": "..%5c..%5c..%5cwindows%5cwin.ini",
    "up, within a path": "a/../../../../../../../../etc/passwd",
    "up, after a file": "model.pt%2f..%2f..%2fcatalog.sqlite",
    "up, by semicolons": "..;/..;/etc/passwd",
    "up, with more dots": "....//....//etc/passwd",
    "absolute": "/etc/passwd",
    "absolute, encoded": "%2fetc%2fpasswd",
    "absolute, with host": "//evil.example/etc/passwd",
    "a URL": "file%3A%2F%2F%2Fetc%2Fpasswd",
    "a drive": "C%3A%5Cwindows%5Cwin.ini",
    "a share": "%5C%5Cevil.example%5Cshare",
    "a device": "CON",
    "a stream": "model.pt%3A%3A$DATA",
    "NUL": "%00",
    "NUL at the end": "..%2fmodel.pt%00.txt",
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af",
    "half a character": "%e2%82",
    "a surrogate": "%ed%a0%80",
    "slashes of unicode": "..%ef%bc%8f..%e2%88%95..%e2%81%84etc",
    "dots of unicode": "%e2%80%a5%2f%ef%bc%8e%ef%bc%8e",
    "line ends": "a%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a",
    "line ends of unicode": "a%c4%8d%c4%8aX:%20y%e2%80%a8z",
    "ten kilobytes": "x" * 10_000,
    "ten kilobytes up": "..%2f" * 2000,
    "many parts": "a/" * 4000,
    "only percent": "%25",
    "percents": "%25%32%65%25%32%65",
    "blank": "%20",
    "tilde": "~root",
    "a variable": "$%7BHOME%7D%24(id)%60id%60",
    "a glob": "*",
    "SQL": "'%20OR%201=1--",
    "a format": "%25s%25n%7B0%7D",
}
"""As they stand in a request's target."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A service in a folder that holds what nobody may read, and of which it may change its own part only."""
    folder = tmp_path_factory.mktemp("around")
    (folder / "secret.txt").write_text(CANARY)
    inside = folder / "service"
    inside.mkdir()
    with serving(inside, teams="true", token=ROOT, requests_per_minute="0") as site:
        upload = f"{API}/models/vision/vision-net/upload/model.pt?alias=gold"
        assert site.ask("PUT", upload, body=make_weights()).status == 201
        before = snapshot(folder)
        yield site
        assert snapshot(folder) == before


def snapshot(folder: Path):
    """Return what there is outside of the data folder, and what kinds of names there are inside."""
    outside, inside = {}, set()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith("service/data/"):
            outside[name] = None if path.is_dir() or path.name == "service.log" else path.read_bytes()
        elif not re.fullmatch(r"service/data/(catalog\.sqlite.*|blobs(/.*)?)", name) or path.is_symlink():
            inside.add(name)
    return outside, inside


NAMES = {"team": "vision", "model": "vision-net", "version": "1", "number": "1", "alias": "gold", "path": "model.pt"}
NAMES |= {"filename": "model.pt", "user": "nobody", "sha256": "sha256:" + "0" * 64, "prefix": "wb_" + "a" * 16}
NAMES |= {"identity": "1", "upload_id": "0" * 32, "position": "0", "other": "1"}
PLACES = [(name, place) for name in OPERATIONS for place in parameters_of(name, "path")]


def harmless(site, answer):
    body = answer.body.decode("utf-8", "replace")
    assert answer.status < 500, body
    assert CANARY not in body
    assert "root:x:" not in body
    assert str(site.folder) not in body
    assert not [name for name, _ in answer.headers if name.lower() in {"set-cookie", "x", "z"}]


@pytest.mark.parametrize(("operation_id", "place"), PLACES)
def test_no_name_in_the_path_of_any_operation_leads_outside(guarded, operation_id, place):
    method, path, _ = OPERATIONS[operation_id]
    headers, body = content_of(operation_id)
    for label, odd in ODD.items():
        target = fill(path, NAMES | {place: odd}, str)
        answer = guarded.request(method, target, {**headers, "Authorization": f"Bearer {ROOT}"}, body)

        harmless(guarded, answer)
        is_name = place == "filename" or label == "a device"  # strange names of files are kept, never on a disk
        assert answer.status >= 400 or is_name, (label, answer.status, answer.body)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_was_taken_under_a_strange_name_comes_back_under_it_and_in_one_header(guarded, odd):
    upload = f"{API}/models/vision/strange/upload/{odd}"
    pushed = guarded.ask("PUT", upload, body=make_weights(8))
    if pushed.status == 201:
        [artifact], number = pushed.json()["artifacts"], pushed.json()["number"]
        got = guarded.ask("GET", f"{API}/models/vision/strange/versions/{number}/artifacts/{quote(artifact['path'])}")

        assert got.body == make_weights(8)
        disposition = got.header("content-disposition")
        assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9%._~-]+", disposition)
        assert unquote(disposition.partition("''")[2]) == artifact["path"].rpartition("/")[2]
        assert not re.search(r"(^|/)\.\.?(/|$)|[\\\x00-\x1f]", artifact["path"])
    else:
        assert pushed.status in {400, 404, 405, 422, 431}
        assert guarded.ask("GET", f"{API}/models/vision/strange/versions?limit=1000").status in {200, 404}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_no_name_of_a_file_in_a_form_leads_outside(guarded, odd):
    name = unquote(odd, errors="surrogateescape").replace('"', "%22").replace("\r", "").replace("\n", "")
    for given in (name, odd):
        headers, body = form((given, make_weights(6)), ("good.txt", b"x"))
        answer = guarded.request(
            "POST", f"{API}/models/vision/forms/versions", {**headers, "Authorization": f"Bearer {ROOT}"}, body
        )

        harmless(guarded, answer)
        paths = [each["path"] for each in answer.json().get("artifacts", [])]
        assert not [path for path in paths if re.search(r"(^|/)\.\.?(/|$)|^/|[\\\x00-\x1f]", path)]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_no_path_in_a_query_leads_outside(guarded, odd):
    model = f"{API}/models/vision/vision-net"
    value = odd if "%" in odd else quote(odd)
    for target in (
        f"{model}/versions/1/manifest?path={value}",
        f"{API}/models?team={value}",
        f"{API}/audit?model={value}",
    ):
        harmless(guarded, guarded.ask("GET", target))
    for name in ("primary", "base", "alias", "sha256", "description", f"tag.{value}", f"metric.{value}"):
        upload = f"{API}/models/vision/queried/upload/model.pt?{name}={value}"
        harmless(guarded, guarded.ask("PUT", upload, body=make_weights(4)))


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_the_files_of_the_documentation_are_all_that_it_serves(guarded, odd):
    for folder in ("/docs/files/", "/docs/files/../", "/docs/", "/", f"{API}/"):
        answer = guarded.ask("GET", folder + odd, None)

        harmless(guarded, answer)
        assert answer.status in {400, 401, 404, 405, 422, 431} or folder + odd == "/docs/files/../..", answer


def test_every_parameter_of_a_path_was_tried():
    assert len(PLACES) > 60
    assert {place for _, place in PLACES} <= NAMES.keys()
