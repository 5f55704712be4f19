"""The client's methods that bring weights and modules together: check before load."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.client import check
from registry.client.check import CheckWishes
from registry.client.connected import Connected

if TYPE_CHECKING:
    from registry.architecture import Architecture
    from registry.compat.rename_map import Prefix, Rename
    from registry.compat.report import CompatibilityReport

PathLike = str | os.PathLike[str]


class Fitting(Connected):
    """What will load where, before it is loaded."""

    def check(
        self,
        ref: PathLike,
        target: "Architecture | object",
        *,
        part: str | None = None,
        prefix: "Prefix" = "auto",
        rename: "Rename | None" = None,
        classifier: Sequence[str] = (),
        first_conv: Sequence[str] = (),
    ) -> "CompatibilityReport":
        """Return what loading a version or local file into a module would do, before anything is loaded.

        `print(report)` says what fits, what does not and what to do; no weights are fetched and none are touched.

        Args:
            ref: the version, or a local path.
            target: an `nn.Module` on any device, also without weights on the meta device, or an `Architecture`.
            part: the state_dict inside a checkpoint.
            prefix: `"auto"` finds how names are wrapped; `""` keeps them; `(strip, add)` replaces a prefix.
            rename: source to target names: a dict, a function, or `"by-order"`; applied after the prefix.
            classifier: the source's head modules, where they are known.
            first_conv: the target's first convolution modules, where they are known.

        Raises:
            AmbiguousPrefixError: several renamings fit about equally well.
            NoWeightsError, AmbiguousWeightsError: there is no state_dict, or several.
        """
        wishes = CheckWishes(part, prefix, rename, classifier, first_conv)
        return check.check(self.connection, ref, target, wishes)
