"""Pushes of which only what is new is sent, by raw requests: what a client claims, and what it sends then."""

import io

import torch
from blake3 import blake3

from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.tiles import cut


def claim(data, *, is_weights=True):
    """Return the tiles of a file as they are claimed."""
    inspection = read(BytesSource(data)).inspection if is_weights else None
    places = cut(inspection, len(data))
    return [[length, blake3(data[offset : offset + length]).hexdigest()] for offset, length in places]


def announce(data):
    """Return the announcement of a file with tiles."""
    return {"size_bytes": len(data), "blake3": blake3(data).hexdigest()}


def plan_delta(client, model, data, path="model.pt", tiles=None, headers=None, **more):
    """Return the answer to a plan of one file."""
    create = {"metadata": {"artifacts": {path: announce(data)}}, "tiles": {path: tiles or claim(data)}, **more}
    return client.post(f"{model}/uploads", json=create, headers=headers)


def sent_of(data, send):
    """Return what is sent of a file."""
    return b"".join(data[offset : offset + length] for offset, length in send)


def send_parts(client, upload, file, data, put=None):
    """Send what is missing of a planned file; return how many bytes that were."""
    pack = data if file["send"] is None else sent_of(data, file["send"])
    numbers = [number for first, last in file["missing"] for number in range(first, last + 1)]
    if not numbers:
        return 0
    asked = client.post(f"{upload}/parts", json={"path": file["path"], "numbers": numbers})
    assert asked.status_code == 200, asked.text
    for part in asked.json()["parts"]:
        body = pack[part["offset"] : part["offset"] + part["length"]]
        if part["url"].startswith("/"):
            answer = client.put(part["url"], content=body, headers=part["headers"])
            assert answer.status_code == 204, answer.text
        else:
            put(part, body)
    return len(pack)


def push_delta(client, model, data, path="model.pt", put=None, **more):
    """Push one file by plan; return the answer to completing it, and how many bytes were sent of it."""
    answer = plan_delta(client, model, data, path, **more)
    assert answer.status_code == 201, answer.text
    upload = f"{model}/uploads/{answer.json()['id']}"
    sent = send_parts(client, upload, answer.json()["files"][0], data, put)
    return client.post(f"{upload}/complete"), sent


def net(seed=0, *, head=0, statistics=0, width=64):
    """Return the state_dict of a small net: a backbone of 10 tensors with running statistics, and a head."""
    frozen = torch.Generator().manual_seed(seed)
    moving = torch.Generator().manual_seed(1_000 + statistics)
    state = {}
    for layer in range(5):
        state[f"layers.{layer}.conv.weight"] = torch.randn(width, width, 3, 3, generator=frozen)
        state[f"layers.{layer}.norm.weight"] = torch.ones(width)
        state[f"layers.{layer}.norm.running_mean"] = torch.randn(width, generator=moving)
    state["fc.weight"] = torch.randn(50, width, generator=torch.Generator().manual_seed(2_000 + head))
    return state


def saved(state):
    """Return a state_dict as `torch.save` writes it."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()
