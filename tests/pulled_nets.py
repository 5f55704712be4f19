"""A network and its fine-tunes that tests pull by tensor, and what may move on the way."""

from collections import OrderedDict
from contextlib import contextmanager

import torch
from torch import nn

KIB, MIB = 1 << 10, 1 << 20
WIDTH = 256
BUDGET_BYTES = 800
"""Of a pull beside the tensors that it brings, for each tensor that there is; and 64 KiB once."""


class Net(nn.Module):
    """A trunk of 2 MiB with statistics and a tie, and a head of 1 MiB."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)) for _ in range(8)))
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.trunk[0][0].weight
        self.head = nn.Linear(WIDTH, 1024)


def tuned_from(base, *prefixes):
    """Return a copy of a state_dict, ties and all, in which what begins so has other values."""
    copies = {}
    tuned = OrderedDict(
        (name, copies.setdefault(value.untyped_storage().data_ptr(), value.clone())) for name, value in base.items()
    )
    for name in tuned:
        if name.startswith(prefixes):
            tuned[name] = tuned[name] + torch.rand(tuned[name].shape).to(tuned[name].dtype) + 1
    tuned._metadata = base._metadata
    return tuned


@contextmanager
def moving_at_most(proxy, size_bytes):
    """Fail when more passes in the block, both ways and with headers."""
    proxy.reset()
    yield
    assert proxy.answered_bytes + sum(map(len, proxy.heads)) <= size_bytes


def cached_files(hub):
    return sorted(entry.path for entry in hub.connection.cache.iter_entries())
