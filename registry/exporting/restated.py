"""What an import says of a version: what the export said, and besides where it came from."""

from collections.abc import Mapping

from pydantic import ValidationError

from registry.client.push import say_invalid
from registry.errors import InvalidMetadataError, MalformedArtifactError
from registry.exporting.documents import ExportInfo, VersionDocument
from registry.exporting.order import ImportOrder, Node
from registry.exporting.present import REFERENCE, REGISTRY
from registry.exporting.reading import ExportFolder
from registry.formats.sharded import parse_index
from registry.module_info import Origin, Recipe
from registry.schema import VersionCreate
from registry.weights import is_index_name

_MAX_DETAILS = 50
_MAX_INDEX_BYTES = 64 << 20


class Restating:
    """Turns documents of an export into pushes to a team.

    Args:
        folder: the export.
        order: knows which versions the export has.
        team: that they are pushed to.
        arrived: the numbers that versions have there now; grows as they arrive.
    """

    def __init__(self, folder: ExportFolder, order: ImportOrder, team: str, arrived: Mapping[Node, int]) -> None:
        self._folder = folder
        self._order = order
        self._team = team
        self._arrived = arrived

    def restate(self, document: VersionDocument) -> VersionCreate:
        """Return the metadata of the push; references inside the export name the new numbers.

        Raises:
            InvalidMetadataError: the document says what no version can say of itself.
        """
        base, recipe = self._translate(document.base), self._restate_recipe(document.recipe)
        lost = {"base": document.base} if document.base and base is None else {}
        if document.recipe and document.recipe.base and recipe and recipe.base is None:
            lost["recipe_base"] = document.recipe.base
        try:
            return VersionCreate(
                description=document.description,
                metrics=document.metrics,
                tags=document.tags,
                base=base,
                builder=document.builder,
                pretrained_cfg=document.pretrained_cfg,
                recipe=recipe,
                origin=_origin(self._folder.info, document, lost),
                wrappers=document.wrappers,
                primary=self._find_primary(document),
            )
        except ValidationError as error:
            raise InvalidMetadataError(f"{document.reference}: {say_invalid(error)}") from error

    def _translate(self, reference: str | None) -> str | None:
        """Return what a version of the export is called now, None when it is none or did not arrive."""
        node = self._order.find(reference)
        if node is None or node not in self._arrived:
            return None
        return f"{self._team}/{node[0]}:{self._arrived[node]}"

    def _restate_recipe(self, recipe: Recipe | None) -> Recipe | None:
        """Return the recipe with its base by the new number, without one where the base did not come along."""
        return recipe.model_copy(update={"base": self._translate(recipe.base)}) if recipe else None

    def _find_primary(self, document: VersionDocument) -> str | None:
        """Return the file that makes the version's weights what they were, where there are several to choose from."""
        if not document.weights or len(document.files) == 1:
            return None
        for each in document.files:
            if not is_index_name(each.path) or each.file is None:
                continue
            beside = each.path[: each.path.rfind("/") + 1]
            try:
                shards = parse_index(self._folder.read_file(each.file, _MAX_INDEX_BYTES)).shards
            except MalformedArtifactError:
                continue  # the service refuses it, and says why
            if {beside + shard for shard in shards} == set(document.weights):
                return each.path
        return document.weights[0] if len(document.weights) == 1 else None


def _origin(info: ExportInfo, document: VersionDocument, lost: Mapping[str, str]) -> Origin:
    """Return where a version came from: its publisher stays, and who pushed it first."""
    known = document.origin
    details = dict(known.details) if known else {}
    ours = {
        REGISTRY: info.registry_id,
        REFERENCE: document.reference,
        "pushed_by": details.get("pushed_by", document.created_by),
        "pushed_at": details.get("pushed_at", document.created_at.isoformat()),
        **lost,
    }
    kept = {name: text for name, text in details.items() if name not in ours}
    room = _MAX_DETAILS - len(ours)
    merged = dict(list(kept.items())[:room]) | ours
    if known is not None:
        return known.model_copy(update={"details": merged})
    return Origin(source=f"weighbridge:{info.registry_id}/{document.reference}", details=merged)
