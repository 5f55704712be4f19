import hashlib
from pathlib import Path

import pytest
import torch
from file_host import FileHost
from huggingface_hub import hf_hub_download

from registry.errors import DigestMismatchError, InvalidRequestError, NotFoundError
from registry.importing.front_matter import ModelCard, read_card
from registry.importing.local_caches import find_snapshot, get_torch_hub_file, hub_folder, torch_hub_folder
from registry.importing.sources import Source, check_source_url, is_source, model_name, parse_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "kind", "name", "model"),
    [
        ("torchvision:resnet50/IMAGENET1K_V2", "torchvision", "resnet50/IMAGENET1K_V2", "resnet50"),
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("hub:org/bert-tiny@v2", "hub", "org/bert-tiny@v2", "bert-tiny"),
        ("torchhub:resnet18-f37072fd.pth", "torchhub", "resnet18-f37072fd.pth", "resnet18"),
        ("https://example.com/a/net-0123abcd.pth?x=1", "url", "https://example.com/a/net-0123abcd.pth?x=1", "net"),
        ("http://127.0.0.1:1/net.v2.safetensors", "url", "http://127.0.0.1:1/net.v2.safetensors", "net.v2"),
        ("http://[::1]:1/net.tar.gz", "url", "http://[::1]:1/net.tar.gz", "net"),
    ],
)
def test_a_source_says_where_it_is_and_names_its_model(text, kind, name, model):
    assert parse_source(text) == Source(kind, name)
    assert model_name(parse_source(text)) == model
    assert is_source(text)
    assert str(parse_source(text)) == text


def test_a_folder_is_a_source(tmp_path, monkeypatch):
    (tmp_path / "net").mkdir()
    monkeypatch.chdir(tmp_path)

    assert parse_source("net").kind == "folder"
    assert model_name(parse_source("./net/")) == "net"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("resnet50", InvalidRequestError),
        ("timm:", InvalidRequestError),
        ("http://example.com/net.pth", InvalidRequestError),
        ("http://169.254.169.254/latest", InvalidRequestError),
        ("ftp://example.com/net.pth", InvalidRequestError),
        ("https://me:secret@example.com/net.pth", InvalidRequestError),
        ("https://example.com:port/net.pth", InvalidRequestError),
        ("https:///net.pth", InvalidRequestError),
        ("./nothing/here", NotFoundError),
    ],
)
def test_what_is_no_source_is_refused(text, error):
    with pytest.raises(error):
        parse_source(text)


def test_a_file_is_pushed_and_not_imported(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"x")
    with pytest.raises(InvalidRequestError, match="weighbridge push"):
        parse_source(str(tmp_path / "net.pt"))


@pytest.mark.parametrize("text", ["https://example.com/", "https://example.com/a/..", "https://example.com/a%2f"])
def test_a_url_without_a_name_asks_for_one(text):
    with pytest.raises(InvalidRequestError):
        model_name(Source("url", check_source_url(text)))


def test_the_caches_are_where_their_libraries_have_them(monkeypatch, tmp_path):
    from huggingface_hub import constants

    for name in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert torch_hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    assert hub_folder() == Path(constants.default_cache_path.replace(constants.default_home, str(tmp_path / ".cache")))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert torch_hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def publish(host: FileHost, repository: str, files: dict[str, bytes], revision: str = "main") -> None:
    """Let huggingface_hub itself fetch files into its cache."""
    for name, data in files.items():
        path = f"/{repository}/resolve/{revision}/{name}"
        host.files[path] = data
        host.headers[path] = {"X-Repo-Commit": COMMIT}
        if name.endswith((".bin", ".safetensors")):
            host.headers[path] |= {
                "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
            }
        hf_hub_download(repository, name, revision=revision, endpoint=host.url(), cache_dir=hub_folder())


@pytest.mark.parametrize("revision", ["main", "v2"])
def test_a_snapshot_of_huggingface_hub_is_read(host, revision):
    publish(host, "org/net", {"config.json": b"{}", "sub/model.safetensors": b"weights"}, revision)

    found = find_snapshot(f"org/net@{revision}" if revision != "main" else "org/net")

    assert (found.repository, found.commit) == ("org/net", COMMIT)
    assert {path: file.read_bytes() for path, file in found.files.items()} == {
        "config.json": b"{}",
        "sub/model.safetensors": b"weights",
    }
    assert find_snapshot(f"org/net@{COMMIT}") == found


def test_a_damaged_file_of_a_snapshot_is_not_imported(host):
    publish(host, "org/net", {"model.safetensors": b"weights"})
    (blob,) = (path for path in hub_folder().rglob("blobs/*") if len(path.name) == 64)
    blob.write_bytes(b"damaged")

    with pytest.raises(DigestMismatchError, match=r"model\.safetensors"):
        find_snapshot("org/net")


def test_a_link_out_of_the_cache_is_left_out(host, tmp_path):
    publish(host, "org/net", {"config.json": b"{}"})
    (tmp_path / "secret").write_text("secret")
    (snapshot,) = hub_folder().glob("models--org--net/snapshots/*")
    (snapshot / "key.txt").symlink_to(tmp_path / "secret")

    assert list(find_snapshot("org/net").files) == ["config.json"]


@pytest.mark.parametrize("name", ["org/net", "org/net@v9"])
def test_what_the_cache_does_not_hold_says_how_to_fetch_it(host, name):
    publish(host, "org/net" if "@" in name else "org/other", {"config.json": b"{}"})

    with pytest.raises(NotFoundError, match="hf download org/net"):
        find_snapshot(name)


@pytest.mark.parametrize("name", ["../x", "a/b/c", "org/net@../../../x", "", "org/net@/etc"])
def test_a_name_leads_nowhere_else(name):
    with pytest.raises(InvalidRequestError):
        find_snapshot(name)


def test_a_ref_that_leads_nowhere_else(host):
    publish(host, "org/net", {"config.json": b"{}"})
    (ref,) = hub_folder().glob("models--org--net/refs/main")
    ref.write_text("..")

    with pytest.raises(NotFoundError):
        find_snapshot("org/net")


def test_a_file_of_torch_hub_is_compared_with_its_name(tmp_path):
    torch_hub_folder().mkdir(parents=True)
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    for name in (f"net-{digits}.pth", "net-00000000.pth", "net.pth"):
        (torch_hub_folder() / name).write_bytes(b"weights")

    assert get_torch_hub_file(f"net-{digits}.pth").read_bytes() == b"weights"
    assert get_torch_hub_file("net.pth").read_bytes() == b"weights"
    with pytest.raises(DigestMismatchError, match="00000000"):
        get_torch_hub_file("net-00000000.pth")
    with pytest.raises(NotFoundError, match="TORCH_HOME"):
        get_torch_hub_file("other.pth")
    with pytest.raises(InvalidRequestError):
        get_torch_hub_file("../other.pth")


@pytest.mark.parametrize(
    ("text", "card"),
    [
        (
            "---\nlicense: mit\ntags: [vision, 'dataset:x', 3]\npipeline_tag: image-classification\n---\n# Net",
            ModelCard("mit", None, {"vision": "true", "dataset:x": "true", "pipeline_tag": "image-classification"}),
        ),
        ("---\nlicense: other\nlicense_name: own\nbase_model: [org/base]\n---", ModelCard("own", "org/base", {})),
        ("---\nlicense: [mit, apache-2.0]\n---", ModelCard("mit", None, {})),
        ("# no front matter\n---\nlicense: mit\n---", ModelCard()),
        ("---\nlicense: mit", ModelCard()),
        ("---\n{[\n---", ModelCard()),
        ("---\njust words\n---", ModelCard()),
        ("---\na: &a [x]\nb: !!python/object/apply:os.system ['true']\n---", ModelCard()),
        ("---\n" + "[" * 20_000 + "\n---", ModelCard()),
        ("", ModelCard()),
    ],
    ids=range(10),
)
def test_the_front_matter_of_a_readme_gives_licence_and_tags(tmp_path, text, card):
    (tmp_path / "README.md").write_text(text)
    assert read_card(tmp_path / "README.md") == card
