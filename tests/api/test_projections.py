"""Tensors of any version as one safetensors stream: judged by the safetensors library and by torch."""

import functools
import io
import json
import warnings

import pytest
import safetensors.torch
import torch
from corpus.harmless import FORMS, harmless_cases, saved
from corpus.values import PLAIN, filled
from embedded import API
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings
from registry.errors import WeighbridgeError
from registry.torch.load import load_state_dict

PROJECTION = "versions/1/state_dict.safetensors"
TAKEN = [dtype for dtype in PLAIN if dtype is not torch.complex128]
NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(".".join)
TENSORS = st.dictionaries(
    NAMES, st.tuples(st.sampled_from(TAKEN), st.lists(st.integers(0, 40), max_size=3)), min_size=1, max_size=6
)
ROOT = "the administrator's token of this test"


def push(client, model, data, name="model.pt", **query):
    answer = client.put(f"{model}/upload/{name}", content=data, params=query)
    assert answer.status_code == 201, answer.text
    return f"{model}/versions/{answer.json()['number']}/state_dict.safetensors"


def described(value):
    """What must come back of a tensor: its dtype, its shape, its bytes."""
    flat = value.detach().clone().contiguous().flatten()
    return str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def header_of(data):
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def is_plain(value):
    if value.layout is not torch.strided or value.is_quantized or value.is_nested or value.is_meta:
        return False
    plain = value.is_contiguous() and not value.is_conj() and not value.is_neg()
    return plain and value.dtype not in {torch.complex128, torch.complex32}


def pulled(path):
    """Return the tensors that a pull of a file gives, None where it gives none."""
    try:
        return {name: each for name, each in load_state_dict([path]).items() if isinstance(each, torch.Tensor)}
    except WeighbridgeError:
        return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the corpus is full of old forms
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_harmless_files_give_the_tensors_that_a_pull_gives_or_say_which_they_cannot(client, tmp_path, step):
    projected, wrong = 0, []
    for number, case in enumerate([*harmless_cases()][::step]):
        path = tmp_path / "model.pt"
        path.write_bytes(case.build(""))
        answer = client.get(push(client, f"{API}/models/corpus/net-{number}", path.read_bytes()))
        expected = pulled(path)
        if not expected:
            continue
        packed = "deflated" in case.name or "big-endian" in case.name
        indirect = {name for name, each in expected.items() if packed or not is_plain(each)}
        if answer.status_code == 200:
            (tmp_path / "projected.safetensors").write_bytes(answer.content)
            found = safetensors.torch.load_file(tmp_path / "projected.safetensors")
            right = {name: described(each) for name, each in found.items()} == {
                name: described(each) for name, each in expected.items()
            }
            projected += 1
        else:
            problem = answer.json()
            right = problem["code"] == "not_projectable" and set(problem["names"]) == indirect
        if not right or (answer.status_code == 200) == bool(indirect):
            wrong.append((case.name, answer.status_code, answer.text[:300], sorted(expected)))
    assert wrong == []
    assert projected > 150 // step


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=TENSORS,
    form=st.sampled_from([*FORMS, "safetensors", "checkpoint"]),
    data=st.data(),
)
def test_any_choice_of_tensors_and_any_range_of_the_stream_is_exactly_that(client, model, tensors, form, data):
    values = {name: filled(dtype, *shape) for name, (dtype, shape) in tensors.items()}
    whole = {"checkpoint": {"epoch": 1, "model": values}}.get(form, values)
    file = (
        safetensors.torch.save(values)
        if form == "safetensors"
        else saved(lambda: whole, form if form in FORMS else "zip")
    )
    url = push(client, model, file)
    wanted = data.draw(st.lists(st.sampled_from(sorted(values)), max_size=3))
    unwanted = data.draw(st.lists(st.sampled_from(sorted(values)), max_size=1))
    left = {name: each for name, each in values.items() if (not wanted or name in wanted) and name not in unwanted}

    answer = client.get(url, params={"include": wanted, "exclude": unwanted})

    if not left:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        return
    found = safetensors.torch.load(answer.content)
    assert {name: described(each) for name, each in found.items()} == {
        name: described(each) for name, each in left.items()
    }
    listed = [name for name in header_of(answer.content) if name != "__metadata__"]
    assert listed == sorted(left)
    assert int.from_bytes(answer.content[:8], "little") % 8 == 0
    start = data.draw(st.integers(0, len(answer.content) - 1))
    end = data.draw(st.integers(start, len(answer.content) + 5))
    part = client.get(url, params={"include": wanted, "exclude": unwanted}, headers={"Range": f"bytes={start}-{end}"})
    assert (part.status_code, part.content) == (206, answer.content[start : end + 1])


def test_large_and_small_tensors_of_several_shards_come_in_one_stream(client, model):
    generator = torch.Generator().manual_seed(1)
    first = {f"layers.{number}.scale": torch.randn(7, generator=generator) for number in range(600)}
    first |= {"layers.0.weight": torch.randn(700, 1000, generator=generator)}
    second = {"head.weight": torch.randn(10, 1000, generator=generator), "head.steps": torch.tensor(3)}
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys(first, "a.safetensors") | dict.fromkeys(second, "b.safetensors"),
    }
    files = [
        ("file", ("model.safetensors.index.json", json.dumps(index).encode())),
        ("file", ("a.safetensors", safetensors.torch.save(first))),
        ("file", ("b.safetensors", safetensors.torch.save(second))),
    ]
    assert client.post(f"{model}/versions", files=files).status_code == 201

    found = safetensors.torch.load(client.get(f"{model}/{PROJECTION}").content)
    head = safetensors.torch.load(client.get(f"{model}/{PROJECTION}?include=head.*&exclude=*steps").content)

    assert {name: described(each) for name, each in found.items()} == {
        name: described(each) for name, each in (first | second).items()
    }
    assert list(head) == ["head.weight"]


def test_the_stream_says_where_it_comes_from_and_keeps_the_versions_of_modules(client, model):
    file = io.BytesIO()
    torch.save(torch.nn.BatchNorm1d(4).state_dict(), file)

    metadata = header_of(client.get(push(client, model, file.getvalue())).content)["__metadata__"]

    assert metadata["format"] == "pt"
    assert metadata["weighbridge.version"] == f"{model.removeprefix('/api/v1/models/')}:1"
    assert json.loads(metadata["weighbridge.state_dict_metadata"]) == {"": {"version": 2}}


def test_its_head_says_everything_and_conditions_hold(client, model, pushed):
    url = f"{model}/{PROJECTION}"
    got, head = client.get(url), client.head(url)

    ignored = {"x-request-id", "date"}
    assert {name: value for name, value in head.headers.items() if name not in ignored} == {
        name: value for name, value in got.headers.items() if name not in ignored
    }
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(got.content)))
    etag = got.headers["ETag"]
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(url, headers={"Range": "bytes=9-", "If-Range": etag}).content == got.content[9:]
    assert client.get(url, headers={"Range": f"bytes={len(got.content)}-"}).status_code == 416


def test_the_etag_is_that_of_the_bytes_and_not_of_the_words_that_asked_for_them(client, model, pushed, weights):
    tag = client.get(f"{model}/{PROJECTION}").headers["ETag"]
    client.put(f"{model}/upload/model.pt", content=weights)

    def ask(version, **query):
        answer = client.get(f"{model}/versions/{version}/state_dict.safetensors", params=query)
        return answer.headers["ETag"], answer.content

    assert ask(1, include=["conv.*"])[0] == ask(1, include=["conv.bias", "*weight"])[0] == tag
    assert ask(1, include=["conv.bias"])[0] == ask(1, exclude=["*weight"])[0] != tag
    assert ask(2)[0] != tag
    assert ask(2)[1] != ask(1)[1]  # it says of which version it is


def test_what_cannot_be_projected_is_named_and_can_be_left_out(client, model):
    base = torch.arange(24.0).reshape(4, 6)
    file = io.BytesIO()
    torch.save({"plain": base, "turned": base.t(), "few": torch.eye(3).to_sparse()}, file)
    url = push(client, model, file.getvalue())

    refused = client.get(url)
    rest = client.get(url, params={"exclude": ["turned", "few"]})

    assert (refused.status_code, refused.json()["code"]) == (422, "not_projectable")
    assert (refused.json()["names"], refused.json()["count"]) == (["few", "turned"], 2)
    assert list(safetensors.torch.load(rest.content)) == ["plain"]


def test_a_pattern_that_matches_nothing_is_an_error(client, model, pushed):
    answer = client.get(f"{model}/{PROJECTION}?include=fc.*")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "'fc.*' matches no name" in answer.json()["detail"]
    assert client.get(f"{model}/{PROJECTION}", params={"include": ["*"] * 21}).status_code == 422


def test_a_checkpoint_gives_the_part_that_is_asked_for(client, model):
    parts = {"netG": {"w": torch.ones(3)}, "netD": {"w": torch.zeros(3)}}
    url = push(client, model, saved(lambda: parts, "zip"))

    ambiguous, chosen = client.get(url), client.get(url, params={"part": "netD"})

    assert (ambiguous.status_code, ambiguous.json()["code"]) == (422, "ambiguous_weights")
    assert torch.equal(safetensors.torch.load(chosen.content)["w"], parts["netD"]["w"])
    assert header_of(chosen.content)["__metadata__"]["weighbridge.part"] == "netD"


def test_a_million_names_for_one_storage_are_no_stream(client, model):
    values = torch.zeros(1 << 18)
    url = push(client, model, saved(lambda: {f"w{number}": values for number in range(40)}, "zip"))

    answer = client.get(url)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert client.get(url, params={"include": ["w1?"]}).status_code == 413
    assert len(safetensors.torch.load(client.get(url, params={"include": ["w1", "w2"]}).content)) == 2


def test_bytes_that_are_gone_are_an_error_and_no_broken_answer(installation, client, model, weights):
    client.put(f"{model}/upload/other.pt", content=weights + b"")
    with installation.away(model, "other.pt"):
        got = client.get(f"{model}/{PROJECTION}")

    assert (got.status_code, got.json()["code"]) == (500, "blob_missing")


@pytest.fixture
def guarded(tmp_path):
    """A service with the team `vision`, whose code only its maintainers download, and a function that asks as one."""
    app = create_app(Settings(data=tmp_path / "data", teams=True, token=ROOT))
    with TestClient(app, base_url="http://models.example.com") as client:

        def ask(method, path, who=ROOT, **content):
            headers = {"Authorization": f"Bearer {who}"}
            return client.request(method, f"{PREFIX}/{path}", headers=headers, **content)

        assert ask("PUT", "teams/vision", json={}).is_success
        rules = {"code_opened_by": "maintainer", "unsafe": "quarantine"}
        assert ask("PATCH", "teams/vision", json=rules).is_success
        people = {}
        for role in ("maintainer", "reader"):
            ask("PUT", f"users/{role}", json={})
            ask("PUT", f"teams/vision/members/{role}", json={"role": role})
            people[role] = ask("POST", "tokens", json={"name": "t", "user": role, "scopes": ["read"]}).json()["token"]
        yield functools.partial(ask), people


def test_whoever_may_not_download_code_gets_no_tensors_out_of_it(guarded):
    ask, people = guarded
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.nn.Linear(2, 3), file)
    assert ask("PUT", "models/vision/net/upload/model.pt", content=file.getvalue()).json()["trust"] == "code"

    refused = ask("GET", f"models/vision/net/{PROJECTION}", people["reader"])
    given = ask("GET", f"models/vision/net/{PROJECTION}", people["maintainer"])

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert ask("HEAD", f"models/vision/net/{PROJECTION}", people["reader"]).status_code == 403
    assert safetensors.torch.load(given.content)["weight"].shape == (3, 2)


def test_what_is_deleted_or_in_quarantine_is_not_projected(guarded, weights):
    ask, people = guarded
    ask("PUT", "models/vision/net/upload/model.pt", content=weights)
    harm = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."
    assert ask("PUT", "models/vision/net/upload/model.pt", content=harm).json()["trust"] == "unsafe"
    before = ask("GET", f"models/vision/net/{PROJECTION}", people["reader"]).status_code
    ask("DELETE", "models/vision/net/versions/1")

    def code(version, who):
        return ask("GET", f"models/vision/net/versions/{version}/state_dict.safetensors", who).json()["code"]

    assert before == 200
    assert code(1, people["reader"]) == code(1, ROOT) == "version_not_found"
    assert code(2, people["reader"]) == code(2, ROOT) == "version_not_found"
