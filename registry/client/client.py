"""The client: one object with a method for everything a user does."""

import os
from typing import Self

from registry.client.archiving import Archiving
from registry.client.comparing import Comparing
from registry.client.config import ClientSettings
from registry.client.connection import Connection
from registry.client.curating import Curating
from registry.client.discovery import Discovering
from registry.client.fitting import Fitting
from registry.client.governing import Governing
from registry.client.measuring import Measuring
from registry.client.moving import Moving
from registry.client.quarantine import Quarantining
from registry.client.vouching import Vouching

PathLike = str | os.PathLike[str]


class Client(
    Moving, Fitting, Discovering, Comparing, Curating, Governing, Measuring, Quarantining, Vouching, Archiving
):
    """A registry's models, versions and weights. Making one talks to nobody; it is safe to share between threads.

    A *reference* names a model and perhaps a version: `vision/resnet50`, `vision/resnet50:3`, `vision/resnet50@prod`,
    `vision/resnet50:3/model.pt`. Where weights are read, a local path (`./best.pt`) works too, without a service.

    Args:
        url: of the service; else `WEIGHBRIDGE_URL`, the last `weighbridge login`, or `http://127.0.0.1:8000`.
        token: else `WEIGHBRIDGE_TOKEN`, the file that `WEIGHBRIDGE_TOKEN_FILE` names, or what `weighbridge login`
            saved for this URL.
        team: completes references without a team; else `WEIGHBRIDGE_TEAM`, or the service's default.
        cache_dir: where downloaded files are kept; else `WEIGHBRIDGE_CACHE`, or the system's cache folder.
        offline: answer from the cache only; else whether `WEIGHBRIDGE_OFFLINE` is set.
        progress: show progress bars; None shows them on a terminal.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __init__(  # noqa: PLR0917 - the contract's order, mostly given by name
        self,
        url: str | None = None,
        token: str | None = None,
        team: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,  # noqa: FBT001 - one of three states, given by name
        progress: bool | None = None,  # noqa: FBT001 - one of three states, given by name
    ) -> None:
        settings = ClientSettings.resolve(url, token, team, cache_dir, offline=offline)
        super().__init__(Connection.to(settings, progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"
