"""The client's methods that move bytes and tensors: push, pull, download."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.client import downloading, examine, glue, pull, push
from registry.client.connected import Connected
from registry.client.gathering import Wanted, use_weights
from registry.client.results import Version
from registry.module_info import Builder, Recipe

if TYPE_CHECKING:
    from collections import OrderedDict

    from registry.formats.inspection import Inspection

PathLike = str | os.PathLike[str]


class Moving(Connected):
    """Files and tensors, there and back."""

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
        builder: Builder | Mapping[str, Any] | str | type | None = None,
        pretrained_cfg: object = None,
        recipe: Recipe | Mapping[str, Any] | None = None,
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
                modules of timm, torchvision, transformers and segmentation-models-pytorch. Also `"my_nets:Net"`, or
                the class itself; it is never imported here, and with `hub.load` only where it is trusted.
            pretrained_cfg: what the module takes and gives, as timm calls it: a `PretrainedConfig`, a dict of its
                members, or the torchvision `Weights` that it was made with (`ResNet50_Weights.IMAGENET1K_V2`). What
                is left out is inferred from a module: number of classes, classifier, first convolution.
            recipe: how it was fine-tuned; read off a module that `prepare_finetune` or `freeze` prepared.
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
            "pretrained_cfg": pretrained_cfg,
            "recipe": recipe,
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

        Only the tensors that are asked for are fetched, and of them those that no file in the cache holds, whatever
        model, version or format that is of.

        Args:
            ref: a version, an artifact of it, or a local file or folder.
            version: which, when `ref` does not say: a number, an alias or a digest.
            part: the state_dict inside a checkpoint.
            only: `weights` gives parameters and persistent buffers; nothing else of a checkpoint is fetched.
            include: glob patterns of names to take (`layer4.*`).
            exclude: glob patterns of names to leave out.
            device: as `map_location` of `torch.load`.
            dtype: floating-point tensors are converted to it.
            verify: read cached files again and compare their digests first.

        Raises:
            NotFoundError: the model, version or alias is not there.
            AmbiguousWeightsError, NoWeightsError: there are several state_dicts to choose from, or none.
            InvalidRequestError: a pattern matches no name.
            OfflineError: offline, and the cache does not hold it.
        """
        load = glue.import_load()
        load.check_only(only)
        wanted = Wanted(part, _patterns(include), _patterns(exclude), verify=verify)
        chosen = {"part": part, "include": wanted.include, "exclude": wanted.exclude, "only": only}
        return use_weights(
            self.connection,
            ref,
            version,
            wanted,
            lambda files: load.load_state_dict(files, device=device, dtype=dtype, **chosen),
        )

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

    def download(self, ref: PathLike, to: PathLike, *, verify: bool = True, cache: bool = True) -> list[Path]:
        """Write the very files that were pushed below the folder `to`; return their paths.

        A reference with a path (`vision/resnet50:3/model.pt`) gets that file only. Files of the same name are replaced,
        each in one step.

        Args:
            ref: a version, an artifact of it, or something local.
            to: the folder.
            verify: read what the cache holds of it again, and compare the digests first.
            cache: keep the files in the cache, too. Without, half the room is enough and the next one fetches again.

        Raises:
            NotFoundError: the model, version, alias or artifact is not there.
            OfflineError: offline, and the cache does not hold it.
        """
        return downloading.download(self.connection, ref, to, verify=verify, cache=cache)

    def inspect(self, ref: PathLike) -> "Inspection":
        """Return what a weight file holds, local or in the registry, without its tensors' values.

        Raises:
            MalformedArtifactError: it cannot be read strictly.
            AmbiguousWeightsError: the reference means several files.
        """
        return examine.inspect_reference(self.connection, ref)


def _patterns(given: str | Sequence[str] | None) -> Sequence[str]:
    return [given] if isinstance(given, str) else list(given or ())
