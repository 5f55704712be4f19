"""Files that are small and would be huge: refused by name over HTTP, in bounded memory, and nothing is left of them."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile

import pytest
import torch
from attacks import ROOT, form
from corpus.archives import (
    Record,
    good_zip,
    legacy_pickles,
    legacy_stream,
    rezipped,
    tar_bytes,
    tar_members,
    torch_zip,
    zip_bytes,
)
from corpus.assembly import PROTO_2, STOP
from embedded import API, make_weights
from processes import anonymous_bytes

UPLOAD = f"{API}/models/vision/bomb/upload"
ZEROS = bytes(64 << 20)
MOST_GROWTH_BYTES = 64 << 20


def zeros_in_a_zip():
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(16 << 20)}, file)
    return rezipped(file.getvalue())


def overlapping():
    """Each entry says that it begins where the first one does, as in the bombs that need no nesting."""
    kernel = Record("m/data/0", ZEROS[: 1 << 20], method=8)
    return zip_bytes([kernel, *(Record(f"m/data/{n}", b"", central={"offset": 0}) for n in range(1, 2000))])


def doubling():
    """Thirty lists, each of which holds the one before it twice."""
    steps = b"".join(b"q" + bytes([n]) + b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(30))
    return PROTO_2 + b"](K\x01e" + steps + STOP


def zipped(name, content):
    return zip_bytes([Record(name, content, method=8)])


def claiming(size):
    """Return a tar file whose only member claims a size and has none of it."""
    info = tarfile.TarInfo("storages")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


BOMBS = {
    "zeros in a compressed storage": zeros_in_a_zip,
    "a compressed pickle": lambda: zip_bytes([Record("m/data.pkl", ZEROS, method=8), Record("m/version", b"3\n")]),
    "a compressed record that nobody reads": lambda: torch_zip(
        PROTO_2 + b"}" + STOP, Record("m/extra", ZEROS, method=8)
    ),
    "a zip in a zip in a zip": lambda: zipped("a.zip", zipped("b.zip", zipped("c", ZEROS))),
    "entries over each other": overlapping,
    "very many entries": lambda: zip_bytes([Record(f"m/{n}", b"") for n in range(80_000)]),
    "an entry of four gigabytes": lambda: torch_zip(
        PROTO_2 + b"}" + STOP, Record("m/data/1", b"x", central={"size": 0xFFFFFFFE})
    ),
    "a directory of more than there is": lambda: good_zip()[:-12] + b"\xff" * 12,
    "lists that double": lambda: torch_zip(doubling()),
    "a pickle of marks": lambda: torch_zip(PROTO_2 + b"(" * (8 << 20) + STOP),
    "a number of a gigabyte": lambda: torch_zip(PROTO_2 + b"\x8b" + struct.pack("<i", 1 << 30) + b"x" + STOP),
    "a text of a gigabyte": lambda: torch_zip(PROTO_2 + b"X" + struct.pack("<I", 1 << 30) + b"x" + STOP),
    "a memo far out": lambda: torch_zip(PROTO_2 + b"}r" + struct.pack("<I", 0xFFFFFFFF) + STOP),
    "a legacy storage of an exabyte": lambda: legacy_stream(legacy_pickles(), struct.pack("<q", 1 << 60)),
    "a tar member of a gigabyte": lambda: claiming(1 << 30),
    "a tar member of 8 exabytes": lambda: claiming((1 << 63) - 1),
    "a tar file of very many members": lambda: tar_bytes({**tar_members(), **{str(n): b"" for n in range(3000)}}),
    "a safetensors header of an exabyte": lambda: struct.pack("<Q", 1 << 60) + b"{}",
    "a safetensors header of brackets": lambda: struct.pack("<Q", 1 << 20) + b"[" * (1 << 20),
    "a safetensors tensor of an exabyte": lambda: safetensors(
        '{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,16]}}'
    ),
    "gzip": lambda: gzip.compress(ZEROS),
    "gzip of gzip": lambda: gzip.compress(gzip.compress(ZEROS)),
    "bzip2": lambda: bz2.compress(ZEROS),
    "xz": lambda: lzma.compress(ZEROS),
    "a packed tar": lambda: gzip.compress(tar_bytes(tar_members())),
}  # fmt: skip


SOME = ["zeros in a compressed storage", "lists that double", "a tar member of a gigabyte", "gzip"]


def safetensors(header):
    return struct.pack("<Q", len(header)) + header.encode() + bytes(16)


@pytest.fixture(scope="module", autouse=True)
def warm(site):
    """The reader's process runs, so that its start is not counted as somebody's memory."""
    assert site.ask("PUT", f"{API}/models/vision/warm/upload/model.pt", body=make_weights()).status == 201


def stored(site):
    blobs = site.folder / "data" / "blobs"
    objects = sorted(str(path) for path in (blobs / "objects").rglob("*") if path.is_file())
    return objects, list((blobs / "tmp").iterdir()), site.ask("GET", f"{API}/teams/vision").json()["stored_bytes"]


@pytest.mark.parametrize(("name", "way"), [(name, "body") for name in BOMBS] + [(name, "form") for name in SOME])
def test_a_bomb_is_refused_by_name_in_bounded_memory_and_leaves_nothing(site, name, way):
    content = BOMBS[name]()
    assert len(content) < 20 << 20
    before, memory = stored(site), anonymous_bytes(site.pid)

    if way == "body":
        answer = site.ask("PUT", f"{UPLOAD}/model.pt", "vision-writer", content)
    else:
        headers, body = form(("model.pt", content), ("README.md", b"x"))
        token = {"Authorization": f"Bearer {site.tokens['vision-writer']}"}
        answer = site.request("POST", f"{API}/models/vision/bomb/versions", {**headers, **token}, body)

    assert (answer.status, answer.code) == (422, "malformed_artifact"), answer.body
    assert answer.json()["detail"].startswith("model.pt: ")
    assert stored(site) == before
    assert anonymous_bytes(site.pid) - memory < MOST_GROWTH_BYTES
    assert site.ask("GET", f"{API}/models/vision/bomb").status == 404


@pytest.mark.parametrize(
    "coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, identity", "GZIP", "unheard-of"]
)
@pytest.mark.parametrize("way", ["body", "form", "part"])
def test_a_push_that_is_packed_for_the_way_is_refused_and_never_unpacked(site, coding, way):
    before, packed = stored(site), gzip.compress(make_weights())
    token = {"Authorization": f"Bearer {ROOT}"}
    if way == "body":
        answer = site.request("PUT", f"{UPLOAD}/notes.txt", {**token, "Content-Encoding": coding}, packed)
    else:
        headers, body = form(("notes.txt", packed))
        headers |= {"Content-Encoding": coding} if way == "form" else {}
        of_part = f"\r\nContent-Encoding: {coding}\r\n\r\n".encode() if way == "part" else b"\r\n\r\n"
        body = body.replace(b"\r\n\r\n", of_part, 1)
        answer = site.request("POST", f"{API}/models/vision/bomb/versions", {**headers, **token}, body)

    assert (answer.status, answer.code) == (422, "invalid_request")
    assert stored(site) == before


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "BASE64"])
def test_a_part_of_a_form_in_base64_is_refused_and_not_stored_as_text(site, coding):
    headers, body = form(("notes.txt", b"aGVsbG8="))
    body = body.replace(b"\r\n\r\n", f"\r\nContent-Transfer-Encoding: {coding}\r\n\r\n".encode(), 1)

    answer = site.request(
        "POST", f"{API}/models/vision/bomb/versions", {**headers, "Authorization": f"Bearer {ROOT}"}, body
    )

    assert (answer.status, answer.code) == (422, "invalid_request")


def test_a_download_is_packed_for_nobody(site):
    path = f"{API}/models/vision/warm/versions/1/artifacts/model.pt"

    got = site.ask("GET", path, Accept_Encoding="gzip, br, zstd, deflate", TE="gzip")

    assert got.body == make_weights()
    assert (got.header("content-encoding"), got.header("transfer-encoding")) == (None, None)
