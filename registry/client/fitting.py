"""The client's methods that bring weights and modules together: check, then load."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from registry.client import check, finetuning, loading
from registry.client.check import CheckWishes
from registry.client.connected import Connected
from registry.client.finetuning import FineTune
from registry.client.loading import LoadOptions, as_names
from registry.compat.load_plan import LoadWishes

if TYPE_CHECKING:
    from registry.architecture import Architecture
    from registry.compat.load_plan import CastRule, DropHead
    from registry.compat.loaded import LoadResult
    from registry.compat.rename_map import Prefix, Rename
    from registry.compat.report import CompatibilityReport

PathLike = str | os.PathLike[str]


class Fitting(Connected):
    """What will load where, before it is loaded; and the load."""

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

    def load_into(
        self,
        ref: PathLike,
        module: Any,
        *,
        strict: bool = True,
        allow_missing: str | Sequence[str] = (),
        allow_unexpected: str | Sequence[str] = (),
        prefix: "Prefix" = "auto",
        rename: "Rename | None" = None,
        part: str | None = None,
        cast: "CastRule" = "safe",
        device: Any = None,
        dtype: Any = None,
        assign: bool = False,
        drop_head: "DropHead" = "auto",
        adapt: str | Sequence[str] = (),
        classifier: str | Sequence[str] = (),
        first_conv: str | Sequence[str] = (),
    ) -> "LoadResult":
        """Fill a module with a version or local file: all of it, or nothing changes and the error says why.

        Every parameter and buffer is filled and nothing of the source's trunk is left over, but for what you name.
        Everything is fetched and verified before the first copy. torch's own `load_state_dict` copies, so optimizers,
        hooks and ties stay. A copy of the module's values is kept meanwhile if it is below 256 MiB or has load code of
        its own (load hooks, `set_extra_state`); of larger ones that costs their size in memory.

        Args:
            ref: the version, or a local path.
            module: an `nn.Module` on any device.
            strict: for those who know torch's; `False` alone forgives nothing, the next two arguments do.
            allow_missing: globs over names of the module that may stay as they are (`fc.*`).
            allow_unexpected: globs over names of the source that may be left out. Heads, auxiliary networks, counters
                and optimizers that the module has no place for are left out unasked, and listed in the result.
            prefix: `"auto"` finds how names are wrapped; `""` keeps them; `(strip, add)` replaces a prefix.
            rename: source to target names: a dict, a function, or `"by-order"`; applied after the prefix.
            part: the state_dict inside a checkpoint.
            cast: `"any"` allows conversions that change the kind of number (float to integer), as torch does.
            device: with `assign`, where the tensors shall lie.
            dtype: with `assign`, what floating-point tensors become; else they become what the module's are.
            assign: put the loaded tensors in the place of the module's own, which may be on the meta device. Make
                optimizers afterwards.
            drop_head: `"auto"` leaves a tensor of the source's head out where the module lacks it or has another
                shape; `True` leaves the head out even where it fits; `False` wants all of it used.
            adapt: what may be done to tensors of another shape: `adapt_first_conv`, `resize_position`,
                `resize_vocabulary`.
            classifier: the source's head modules, where the version does not record them.
            first_conv: the module's first convolutions, where they cannot be seen.

        Raises:
            StateDictMismatchError: it would leave or drop something that was not named; a RuntimeError, as torch's.
            AmbiguousPrefixError: several renamings fit about equally well.
            WeighbridgeError: as `pull`. After an error the module is bit for bit what it was; only where a device broke
                down under a module of more than 256 MiB, the error says that it is filled in part.
        """
        del strict  # what may stay or go is named, in both cases
        compared = CheckWishes(part, prefix, rename, as_names(classifier), as_names(first_conv))
        allowed = LoadWishes(as_names(allow_missing), as_names(allow_unexpected), drop_head, cast, as_names(adapt))
        options = LoadOptions(compared, allowed, device, dtype, assign)
        return loading.load_into(self.connection, ref, module, options)

    def load_backbone(
        self,
        ref: PathLike,
        module: Any,
        *,
        into: str = "",
        freeze: bool = False,
        strict: bool = True,
        allow_missing: str | Sequence[str] = (),
        allow_unexpected: str | Sequence[str] = (),
        prefix: "Prefix" = "auto",
        rename: "Rename | None" = None,
        part: str | None = None,
        cast: "CastRule" = "safe",
        device: Any = None,
        dtype: Any = None,
        assign: bool = False,
        drop_head: "DropHead" = "auto",
        adapt: str | Sequence[str] = (),
        classifier: str | Sequence[str] = (),
        first_conv: str | Sequence[str] = (),
    ) -> "LoadResult":
        """Fill the trunk of a module with that of a version or local file; the head and what lies outside may stay.

        As `load_into`, but what lies behind or beside the trunk (a new head, a decoder, another tower) needs no naming.
        A trunk that would be cut off, or filled in places only, raises.

        Args:
            ref: the version, or a local path.
            module: an `nn.Module` that is the backbone or contains it.
            into: the submodule to fill (`encoder`, `model.vision`); then names are those below it. Else the place is
                found by the names.
            freeze: freeze what was filled, as `weighbridge.freeze` does; what was not filled stays trainable. So does
                the head of a network that was filled completely, unless `into` says that it is a part of another one.
            strict: see `load_into`, as for all that follow.
            allow_missing: what else may stay, inside the trunk.
            allow_unexpected: what else may be left out.
            prefix: how names are wrapped.
            rename: source to target names.
            part: the state_dict inside a checkpoint.
            cast: which conversions are allowed.
            device: with `assign`.
            dtype: with `assign`.
            assign: for a module on the meta device.
            drop_head: a head that fits is filled too, unless this is `True`.
            adapt: what may be done to tensors of another shape.
            classifier: the source's head modules.
            first_conv: the module's first convolutions.

        Raises:
            StateDictMismatchError: nothing, or less than the trunk, would be filled.
            InvalidRequestError: there is no such submodule; the detail names near ones.
            WeighbridgeError: as `load_into`.
        """
        del strict
        compared = CheckWishes(part, prefix, rename, as_names(classifier), as_names(first_conv))
        allowed = LoadWishes(
            as_names(allow_missing), as_names(allow_unexpected), drop_head, cast, as_names(adapt), backbone=True
        )
        options = LoadOptions(compared, allowed, device, dtype, assign, into, freeze)
        return loading.load_into(self.connection, ref, module, options)

    def load(
        self,
        ref: PathLike,
        *,
        device: Any = "cpu",
        dtype: Any = None,
        eval: bool = False,  # noqa: A002 - the method of nn.Module that it calls
        builder: Any = None,
        trust_builder: bool = False,
        part: str | None = None,
    ) -> Any:
        """Return the module of a version or local file: built, checked and filled completely.

        It is built without spending time on first values. Wrappers (DDP, `torch.compile`) are not put back.

        Args:
            ref: the version, or a local path; the latter needs a `builder`.
            device: where the module shall be.
            dtype: of its floating-point tensors; by default what the builder makes.
            eval: return it in evaluation mode; else it is in training mode, as torch builds modules.
            builder: what builds it, instead of what the version records: your class or function (called without
                arguments, or with the recorded ones where it is the recorded one), a `Builder`, or its text
                (`torchvision.models:resnet50`).
            trust_builder: call a builder that is named and of no known library: this runs that library's code.
            part: the state_dict inside a checkpoint.

        Raises:
            InvalidRequestError: nothing says how it is built, or the builder raised.
            TrustCodeRequiredError: the builder is of no known library, and was not trusted.
            StateDictMismatchError: the weights do not fill what was built.
        """
        options = LoadOptions(CheckWishes(part), device=device, dtype=dtype, assign=True)
        module = loading.load(self.connection, ref, builder, options, trust_builder=trust_builder)
        return module.eval() if eval else module

    def prepare_finetune(
        self,
        ref: PathLike,
        module: Any,
        *,
        head: str | Sequence[str] | None = None,
        num_classes: int | None = None,
        lr: float | Mapping[str, float] | None = None,
        weight_decay: float | None = None,
        freeze: bool | str | Sequence[str] = False,
        batch_norm: Literal["eval", "train"] = "eval",
        dropout: Literal["eval", "train"] = "train",
        rows: Mapping[str, Sequence[tuple[int, int]]] | None = None,
        into: str = "",
        allow_missing: str | Sequence[str] = (),
        allow_unexpected: str | Sequence[str] = (),
        prefix: "Prefix" = "auto",
        rename: "Rename | None" = None,
        part: str | None = None,
        cast: "CastRule" = "safe",
        drop_head: "DropHead" = "auto",
        adapt: str | Sequence[str] = (),
        classifier: str | Sequence[str] = (),
        first_conv: str | Sequence[str] = (),
    ) -> FineTune:
        """Make a module ready to be fine-tuned from a version or local file; it is changed in place.

        Its head is replaced, its backbone filled as by `load_backbone`, and what shall not train is frozen.
        `torch.optim.AdamW(result.param_groups)` is next. The next push of the module stores the recipe.

        Args:
            ref: the version, or a local path.
            module: an `nn.Module` with values, not in DistributedDataParallel yet.
            head: names of its head's modules; else timm says, the version recorded, or its last layer is taken.
            num_classes: puts new layers of the same class in the place of the head's last ones, with as many outputs.
                By default the module's own head stays, and is filled where the source has one of its size.
            lr: learning rate of all parameters, or of `{"backbone": …, "head": …}`; else the optimizer's own.
                What no weights filled, a decoder too, belongs to the head's group.
            weight_decay: of all groups; else the optimizer's own. Tensors with frozen rows get 0.
            freeze: `True` trains the head and what no weights filled, alone; or globs over names to freeze.
            batch_norm: what frozen BatchNorm does in training, see `weighbridge.freeze`.
            dropout: what Dropout in frozen modules does.
            rows: of tensors that train otherwise, the frozen rows as half-open ranges.
            into: see `load_backbone`, as for all that follow.
            allow_missing: what else may stay.
            allow_unexpected: what else may be left out.
            prefix: how names are wrapped.
            rename: source to target names.
            part: the state_dict inside a checkpoint.
            cast: which conversions are allowed.
            drop_head: without `num_classes`, whether the source's head is left out.
            adapt: what may be done to tensors of another shape.
            classifier: the source's head modules.
            first_conv: the module's first convolutions.

        Raises:
            InvalidRequestError: there is no such head (the detail names the right one), a glob matches nothing.
            UnsupportedValueError: the head's class cannot be made with another number of classes.
            WeighbridgeError: as `load_backbone`. After any error the module is what it was, its head too.
        """
        compared = CheckWishes(part, prefix, rename, as_names(classifier), as_names(first_conv))
        allowed = LoadWishes(
            as_names(allow_missing), as_names(allow_unexpected), drop_head, cast, as_names(adapt), backbone=True
        )
        wishes = {
            "head": head, "num_classes": num_classes, "lr": lr, "weight_decay": weight_decay, "freeze": freeze,
            "rows": dict(rows or {}), "batch_norm": batch_norm, "dropout": dropout,
        }  # fmt: skip
        options = LoadOptions(compared, allowed, into=into)
        return finetuning.prepare_finetune(self.connection, ref, module, options, wishes)
