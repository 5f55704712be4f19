"""Pushes that send only what the team has not stored: what they send, and that what they make is what was pushed."""

import hashlib

import pytest
from deltas import claim, net, plan_delta, push_delta, saved, send_parts
from safetensors.torch import save

from storage.access import Caller
from storage.fsck import fsck
from storage.garbage import collect
from storage.uploads import planning

OPERATOR = Caller("operator", is_administrator=True)
PART = 1 << 18


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(planning, "LOCAL_PART_BYTES", PART)


@pytest.fixture
def base(client, model, request):
    """A net of the test's own, and version 1 of its model."""
    seed = int(hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:6], 16)
    data = saved(net(seed))
    assert client.put(f"{model}/upload/model.pt", content=data).status_code == 201
    return seed, data


def download(client, model, number, path="model.pt", **headers):
    return client.get(f"{model}/versions/{number}/artifacts/{path}", headers=headers).content


def extents_of(installation, model, number, path="model.pt"):
    team, name = model.split("/")[-2:]
    return installation.stores.catalog.get_artifact(team, name, str(number), path).extents


def test_a_new_head_is_all_that_is_sent_and_the_file_comes_back_byte_for_byte(client, installation, model, base):
    tuned = saved(net(base[0], head=1))

    answer, sent = push_delta(client, model, tuned)

    assert answer.status_code == 201, answer.text
    assert sent < 50 * 64 * 4 + 15 * 800
    assert answer.json()["artifacts"][0]["sha256"] == f"sha256:{hashlib.sha256(tuned).hexdigest()}"
    assert answer.json()["size_bytes"] == len(tuned)
    assert download(client, model, 2) == tuned
    assert download(client, model, 2, Range="bytes=1000-400000") == tuned[1000:400001]
    assert download(client, model, 2, Range="bytes=-50000") == tuned[-50000:]
    assert len(extents_of(installation, model, 2)) <= 4


def test_moved_statistics_are_sent_and_what_lies_between_is_not(client, model, base):
    tuned = saved(net(base[0], head=1, statistics=1))
    answer, sent = push_delta(client, model, tuned)
    assert answer.status_code == 201, answer.text
    assert sent < 50 * 64 * 4 + 5 * 64 * 4 + 15 * 800
    assert download(client, model, 2) == tuned


def test_of_the_same_file_nothing_is_sent_and_it_is_stored_once(client, installation, model, base):
    before = installation.stored()
    answer, sent = push_delta(client, model, base[1])
    assert (answer.status_code, sent) == (201, 0)
    assert installation.stored() == before | {"versions": before["versions"] + 1}
    [extent] = extents_of(installation, model, 2)
    assert extents_of(installation, model, 1) == (extent,)


def test_the_same_tensors_in_another_format_are_not_sent_again(client, model, base):
    other = save(net(base[0]))
    answer, sent = push_delta(client, model, other, "model.safetensors")
    assert answer.status_code == 201, answer.text
    assert sent < 0.02 * len(other)
    assert download(client, model, 2, "model.safetensors") == other


def test_a_file_that_is_no_weights_is_sent_once(client, model, base):
    words = b"a word\n" * 20_000
    for expected in (len(words), 0):
        create = {
            "metadata": {
                "artifacts": {
                    "model.pt": {"size_bytes": len(base[1]), "blake3": claim(base[1], is_weights=False)[0][1]},
                    "words.txt": {"size_bytes": len(words), "blake3": claim(words, is_weights=False)[0][1]},
                }
            },
            "tiles": {"model.pt": claim(base[1]), "words.txt": claim(words, is_weights=False)},
        }
        plan = client.post(f"{model}/uploads", json=create).json()
        assert [file["path"] for file in plan["files"] if file["send"] == []][:1] == ["model.pt"]
        upload = f"{model}/uploads/{plan['id']}"
        if expected:
            asked = client.post(f"{upload}/parts", json={"path": "words.txt", "numbers": [1]}).json()["parts"]
            assert client.put(asked[0]["url"], content=words).status_code == 204
        answer = client.post(f"{upload}/complete")
        assert answer.status_code == 201, answer.text
        assert (plan["files"][1]["send"] == []) == (not expected)


def test_thirty_fine_tunes_of_one_another_come_back_and_add_few_rows(client, installation, model, base):
    data, counts = [base[1]], []
    for number in range(1, 31):
        data.append(saved(net(base[0], head=number, statistics=number // 10)))
        answer, _ = push_delta(client, model, data[-1])
        assert answer.status_code == 201, answer.text
        counts.append(len(extents_of(installation, model, number + 1)))
    assert [download(client, model, number + 1) for number in range(31)] == data
    assert max(counts) <= 15
    assert not [each for each in fsck(installation.stores, OPERATOR, reads_bytes=True) if model[-5:] in str(each)]


def test_a_claim_that_is_not_what_the_file_has_publishes_nothing(client, installation, model, base):
    tuned = saved(net(base[0], head=1))
    before = installation.stored()
    lie = claim(base[1])  # as if the head were the old one
    plan = plan_delta(client, model, tuned, tiles=lie)
    assert plan.json()["files"][0]["send"] == []

    refused = client.post(f"{model}/uploads/{plan.json()['id']}/complete")

    assert (refused.status_code, refused.json()["code"]) == (422, "digest_mismatch")
    assert installation.stored() == before
    assert client.get(f"{model}/versions").json()["items"][0]["damaged"] == []


@pytest.mark.parametrize("cut", [lambda tiles: tiles[:-1], lambda tiles: [*tiles, tiles[0]], lambda tiles: tiles[::2]])
def test_tiles_that_do_not_cover_the_file_are_refused(client, model, base, cut):
    answer = plan_delta(client, model, base[1], tiles=cut(claim(base[1])))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_tiles_of_a_file_that_is_not_announced_are_refused(client, model, base):
    create = {"metadata": {"artifacts": {"model.pt": {"size_bytes": len(base[1])}}}}
    answer = client.post(f"{model}/uploads", json={**create, "tiles": {"other.pt": claim(base[1])}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def changed_at(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize("what", ["fine-tune", "new weights"])
def test_without_a_digest_what_comes_is_held_to_its_tiles(client, installation, model, base, what):
    data = saved(net(base[0] + (what == "new weights"), head=base[0]))  # a head that no other test has stored
    tiles = claim(data)
    create = {"metadata": {"artifacts": {"model.pt": {"size_bytes": len(data)}}}, "tiles": {"model.pt": tiles}}
    new = [0 if tile in claim(base[1]) else tile[0] for tile in tiles]
    changed = changed_at(data, sum(length for length, _ in tiles[: new.index(max(new))]) + 100)
    before = installation.stored()
    for content, expected in ((None, 422), (data, 201)):
        planned = client.post(f"{model}/uploads", json=create)
        assert planned.status_code == 201, planned.text
        [file], upload = planned.json()["files"], f"{model}/uploads/{planned.json()['id']}"
        assert (file["send"] is not None) == (what == "fine-tune")
        send_parts(client, upload, file, content or changed)
        answer = client.post(f"{upload}/complete")
        assert answer.status_code == expected, answer.text
        if content is None:
            assert answer.json()["code"] == "digest_mismatch", answer.text
            assert installation.stored() == before
            assert client.get(f"{model}/versions").json()["items"][0]["damaged"] == []
    assert download(client, model, 2) == data


def test_what_a_plan_reuses_stays_until_the_upload_ends(client, installation, model, base):
    tuned = saved(net(base[0], head=1))
    plan = plan_delta(client, model, tuned).json()
    purge = {"reason": "room", "now": True}
    assert client.post(f"{model}/versions/1/purge", json=purge).status_code == 200
    collect(installation.stores, OPERATOR)

    upload = f"{model}/uploads/{plan['id']}"
    answer, _ = complete(client, upload, plan, tuned)

    assert answer.status_code == 201, answer.text
    assert download(client, model, 2) == tuned
    assert client.post(f"{model}/versions/2/purge", json=purge).status_code == 200
    before = installation.stored()["objects"]
    assert plan_delta(client, model, tuned).json()["files"][0]["send"] is None
    assert before == installation.stored()["objects"]


def test_what_an_aborted_plan_held_goes_with_the_next_collection(client, installation, model, base):
    plan = plan_delta(client, model, saved(net(base[0], head=1))).json()
    client.post(f"{model}/versions/1/purge", json={"reason": "room", "now": True})
    held = installation.stored()["objects"]
    assert client.delete(f"{model}/uploads/{plan['id']}").status_code == 204
    collect(installation.stores, OPERATOR)
    assert installation.stored()["objects"] == held - 1


@pytest.mark.parametrize("found", [True, False])
def test_a_plan_over_bytes_that_changed_is_stale_and_the_next_one_sends_them(client, installation, model, base, found):
    tuned = saved(net(base[0], head=1))
    plan = plan_delta(client, model, tuned).json()
    [extent] = extents_of(installation, model, 1)
    place = installation.folder / "blobs" / "objects" / extent.location
    changed = bytearray(place.read_bytes())
    changed[100_000] ^= 1
    place.chmod(0o644)
    place.write_bytes(changed)
    if found:
        list(fsck(installation.stores, OPERATOR, reads_bytes=True, repairs=True))

    answer, _ = complete(client, f"{model}/uploads/{plan['id']}", plan, tuned)

    assert (answer.status_code, answer.json()["code"]) == (409, "plan_stale")
    again, sent = push_delta(client, model, tuned)
    assert (again.status_code, sent) == (201, len(tuned))
    assert download(client, model, 2) == tuned
    assert client.put(f"{model}/upload/model.pt", content=base[1]).status_code == 201
    assert download(client, model, 1) == base[1]


def complete(client, upload, plan, data):
    sent = send_parts(client, upload, plan["files"][0], data)
    return client.post(f"{upload}/complete"), sent
