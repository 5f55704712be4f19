"""The client: one object with a method for everything a user does."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from registry.client import changes, check, examine, glue, listing, pull, push
from registry.client.check import CheckWishes
from registry.client.config import ClientSettings
from registry.client.connection import Connection
from registry.client.results import Listing, Model, Version
from registry.module_info import Builder
from registry.schema import AliasInfo, AliasMove, ServiceInfo

if TYPE_CHECKING:
    from collections import OrderedDict

    from registry.architecture import Architecture
    from registry.compat.rename_map import Prefix, Rename
    from registry.compat.report import CompatibilityReport
    from registry.formats.inspection import Inspection

PathLike = str | os.PathLike[str]


class Client:
    """A registry's models, versions and weights. Making one talks to nobody; it is safe to share between threads.

    A *reference* names a model and perhaps a version: `vision/resnet50`, `vision/resnet50:3`, `vision/resnet50@prod`,
    `vision/resnet50:3/model.pt`. Where weights are read, a local path (`./best.pt`) works too, without a service.

    Args:
        url: of the service; else `WEIGHBRIDGE_URL`, the last `weighbridge login`, or `http://127.0.0.1:8000`.
        token: else `WEIGHBRIDGE_TOKEN`, or what `weighbridge login` saved for this URL.
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
        self.connection = Connection.to(settings, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close pooled connections; the client can still be used and opens new ones."""
        self.connection.transport.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self.connection.settings.url

    @property
    def cache_dir(self) -> Path:
        """Where downloaded files are kept."""
        return self.connection.cache.folder

    def service(self) -> ServiceInfo:
        """Return who answers: version, capabilities, limits."""
        return self.connection.resolver.service()

    def push(
        self,
        ref: str,
        obj: object,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        base: str | None = None,
        alias: str | Sequence[str] = (),
        builder: Builder | Mapping[str, Any] | None = None,
        primary: str | None = None,
        as_code: bool = False,
        unwrap: bool = True,
    ) -> Version:
        """Publish a new version of a model, which is made if it is new.

        Args:
            ref: the model.
            obj: a state_dict, a module (its state_dict is taken) or a checkpoint dict; or the path of a file or folder,
                or a list of paths.
            metrics: finite numbers by name.
            tags: words by name.
            description: for people.
            base: a reference to the version that this one was fine-tuned from.
            alias: moved to the new version as it appears.
            builder: how to make the module again (`{"callable": "timm:create_model", "arguments": {…}}`); inferred for
                timm, torchvision and transformers modules.
            primary: the artifact that is the state_dict when there are several.
            as_code: pickle a whole module, class and all; loading it will run code.
            unwrap: take the module out of DataParallel, DDP, `torch.compile` and AveragedModel, whose names it records.

        Returns:
            The version; its `notices` say what was left out or done on the way.

        Raises:
            UnsupportedValueError: the object holds what no file format keeps; the detail names it.
            UnsafeArtifactError, MalformedArtifactError: the service refused a file; nothing was stored.
            ServerUnreachableError: the service is away. Retries are safe: one push makes one version.
        """
        details = {
            "metrics": metrics,
            "tags": tags,
            "description": description,
            "base": base,
            "aliases": [alias] if isinstance(alias, str) else list(alias),
            "builder": builder,
            "primary": primary,
        }
        if push.is_path(obj):
            sources: Any = [obj] if isinstance(obj, str | os.PathLike) else obj
            return push.push_files(self.connection, ref, sources, details)
        return push.push_object(self.connection, ref, obj, details, as_code=as_code, unwrap=unwrap)

    def pull(
        self,
        ref: PathLike,
        *,
        version: int | str | None = None,
        part: str | None = None,
        only: str = "weights",
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        device: Any = "cpu",
        dtype: Any = None,
        verify: bool = False,
    ) -> "OrderedDict[str, Any]":
        """Return a state_dict: verified, memory-mapped copy-on-write, without running any pickle.

        Args:
            ref: a version, an artifact of it, or a local file or folder.
            version: which, when `ref` does not say: a number, an alias or a digest.
            part: the state_dict inside a checkpoint.
            only: `weights` gives parameters and persistent buffers.
            include: glob patterns of names to take (`layer4.*`).
            exclude: glob patterns of names to leave out.
            device: as `map_location` of `torch.load`.
            dtype: floating-point tensors are converted to it.
            verify: read cached files again and compare their digests first.

        Raises:
            NotFoundError: the model, version or alias is not there.
            AmbiguousWeightsError, NoWeightsError: there are several state_dicts to choose from, or none.
            OfflineError: offline, and the cache does not hold it.
        """
        load = glue.import_load()
        files = pull.fetch_weights(self.connection, ref, version, verify=verify)
        chosen = {"include": _patterns(include), "exclude": _patterns(exclude), "only": only}
        return load.load_state_dict(files, part=part, device=device, dtype=dtype, **chosen)

    def pull_checkpoint(self, ref: PathLike, *, version: int | str | None = None, device: Any = "cpu") -> Any:
        """Return a checkpoint as the nested dict it is, with plain values and tensors; nothing is run.

        Raises:
            UnsupportedValueError: it holds a value that cannot be restored without running code.
            WeighbridgeError: as `pull`.
        """
        load = glue.import_load()
        file = pull.only_file(ref, pull.fetch_weights(self.connection, ref, version))
        return load.load_checkpoint(file, device=device)

    def load_code(self, ref: PathLike, *, trust_code: bool = False, classes: Mapping[str, type] | None = None) -> Any:
        """Return the unpickled module or scripted module of a `trust: code` artifact: this runs code from the file.

        Args:
            ref: a version, an artifact of it, or a local file.
            trust_code: say that you trust whoever made the file.
            classes: what stands for classes that cannot be imported here (`{"__main__.Net": Net}`).

        Raises:
            TrustCodeRequiredError: without `trust_code=True`; lists what the file refers to.
        """
        file, file_format = pull.fetch_code(self.connection, ref, trust_code=trust_code)
        file_format = file_format or examine.inspect_file(file).format
        return glue.import_code().load_code(file, file_format, trust_code=trust_code, classes=dict(classes or {}))

    def download(self, ref: PathLike, to: PathLike, *, verify: bool = True) -> "list[Path]":
        """Write the very files that were pushed below the folder `to`; return their paths.

        A reference with a path (`vision/resnet50:3/model.pt`) gets that file only. Files of the same name are replaced,
        each in one step.

        Raises:
            NotFoundError: the model, version, alias or artifact is not there.
            OfflineError: offline, and the cache does not hold it.
        """
        return pull.download(self.connection, ref, to, verify=verify)

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

    def inspect(self, ref: PathLike) -> "Inspection":
        """Return what a weight file holds, local or in the registry, without its tensors' values.

        Raises:
            MalformedArtifactError: it cannot be read strictly.
            AmbiguousWeightsError: the reference means several files.
        """
        return examine.inspect_reference(self.connection, ref)

    def list(
        self,
        *,
        team: str | None = None,
        tags: Mapping[str, str] | None = None,
        kind: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Listing[Model]:
        """Return the models that match everything given, of all teams unless one is named."""
        return listing.list_models(self.connection, team=team, tags=tags, kind=kind, sort=sort, limit=limit)

    def search(self, text: str, *, team: str | None = None, limit: int | None = None) -> Listing[Model]:
        """Return the models whose name, description or tags hold the text."""
        return listing.list_models(self.connection, search=text, team=team, limit=limit)

    def model(self, ref: str) -> Model:
        """Return a model: description, tags, latest version."""
        return changes.get_model(self.connection, ref)

    def show(self, ref: str) -> Version:
        """Return a version: artifacts, annotations, aliases, base."""
        return self.connection.resolver.version(self.connection.resolver.reference(ref))

    def versions(
        self, ref: str, *, sort: str = "-number", limit: int | None = None, deleted: bool = False
    ) -> Listing[Version]:
        """Return a model's versions, sorted by `number`, `created` or `metrics.NAME`; a leading `-` is descending."""
        return listing.list_versions(self.connection, ref, sort=sort, limit=limit, deleted=deleted)

    def best(self, ref: str, metric: str, *, mode: Literal["min", "max"] = "max") -> Version:
        """Return the version with the lowest or highest value of a metric; deprecated ones do not count."""
        return listing.best_version(self.connection, ref, metric, mode)

    def annotate(
        self,
        ref: str,
        *,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str | None] | None = None,
        description: str | None = None,
        deprecated: str | None = None,
    ) -> Version:
        """Change what may change of a version. What is left out stays.

        Args:
            ref: the version.
            metrics: to set; None removes.
            tags: to set; None removes.
            description: the new one.
            deprecated: why it should not be used any more; an empty text takes that back.

        Raises:
            PreconditionFailedError: somebody changed it at the same moment.
        """
        return changes.annotate(
            self.connection, ref, metrics=metrics, tags=tags, description=description, deprecated=deprecated
        )

    def alias(self, ref: str, name: str, *, reason: str = "") -> AliasInfo:
        """Point an alias at the version that `ref` means now; the move is recorded with its reason.

        Raises:
            PreconditionFailedError: somebody moved it at the same moment.
        """
        return changes.move_alias(self.connection, ref, name, reason)

    def aliases(self, ref: str) -> Listing[AliasInfo]:
        """Return a model's aliases."""
        return listing.list_aliases(self.connection, ref)

    def alias_history(self, ref: str, name: str, *, limit: int | None = None) -> Listing[AliasMove]:
        """Return the moves of an alias: who, when, from, to, why."""
        return listing.list_alias_moves(self.connection, ref, name, limit=limit)

    def remove_alias(self, ref: str, name: str) -> None:
        """Remove an alias of a model; its history stays."""
        changes.remove_alias(self.connection, ref, name)

    def delete(self, ref: str) -> None:
        """Delete a version, or the whole model when the reference names no version; `restore` takes it back.

        Raises:
            VersionInUseError: an alias points at the version.
        """
        changes.delete(self.connection, ref)

    def restore(self, ref: str) -> Model | Version:
        """Take back the deletion of a version (by its number) or of a model."""
        return changes.restore(self.connection, ref)


def _patterns(given: str | Sequence[str] | None) -> "Sequence[str] | None":
    return [given] if isinstance(given, str) else given
