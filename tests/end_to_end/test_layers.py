"""A fine-tune that lies in two objects, on each installation: its tensors as a stream, its lineage, what it takes."""

from urllib.request import Request, urlopen

import pytest
import safetensors.torch
import torch


@pytest.fixture
def pushed(hub, tmp_path, request):
    """A base, and a fine-tune with another head that was pushed by plan; the values of the second."""
    name = f"layers/{request.node.callspec.id}"
    generator = torch.Generator().manual_seed(len(name))
    base = {f"layer{number}.weight": torch.randn(300, 1000, generator=generator) for number in range(8)}
    base |= {f"layer{number}.running_mean": torch.randn(7, generator=generator) for number in range(8)}
    tuned = base | {"fc.weight": torch.randn(10, 1000, generator=generator), "layer0.running_mean": torch.ones(7)}
    base |= {"fc.weight": torch.randn(50, 1000, generator=generator)}
    for values in (base, tuned):
        torch.save(values, tmp_path / "model.pt")
        hub.push(name, tmp_path / "model.pt")
    return name, tuned


def fetch(service, name, query="", **headers):
    team, model = name.split("/")
    url = f"{service.url}/api/v1/models/{team}/{model}/versions/2/state_dict.safetensors{query}"
    with urlopen(Request(url, headers=headers), timeout=60) as answer:  # noqa: S310 - our own service on loopback
        return answer.read()


def test_a_fine_tune_that_shares_its_trunk_says_so_and_comes_back_whole(service, hub, pushed):
    name, tuned = pushed
    team, model = hub.storage(name.partition("/")[0]), hub.storage_by_model(name.partition("/")[0])
    lineage, diff = hub.lineage(f"{name}:2"), hub.diff(f"{name}:1", f"{name}:2")
    whole = fetch(service, name)
    middle = fetch(service, name, "?exclude=fc.*", Range="bytes=1000000-4999999")

    assert team.saved_bytes > 0.9 * 8 * 300 * 1000 * 4
    assert [(each.model, each.stored_bytes, each.own_bytes) for each in model] == [
        (name.partition("/")[2], team.stored_bytes, team.stored_bytes)
    ]
    assert lineage.text.startswith("99.5 % of bytes shared with")
    assert lineage.text.endswith("; head has another shape (fc); BatchNorm statistics moved")
    assert (diff.equal.count, diff.changed.count, diff.reshaped.count) == (15, 1, 1)
    found = safetensors.torch.load(whole)
    assert found.keys() == tuned.keys()
    assert all(torch.equal(found[key], tuned[key]) for key in tuned)
    assert middle == fetch(service, name, "?exclude=fc.*")[1_000_000:5_000_000]
    assert torch.equal(safetensors.torch.load(fetch(service, name, "?include=fc.*"))["fc.weight"], tuned["fc.weight"])
