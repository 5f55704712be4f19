"""How a module is fine-tuned, as a document: read off the module for the next push, and applied to another one."""

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError
from torch import nn

from registry.compat.name_globs import shorten
from registry.errors import InvalidRequestError
from registry.module_info import Recipe
from registry.torch.freeze import Frozen, freeze_names, frozen_names, modes_of, open_module, rows_of
from registry.torch.frozen_names import iter_modules, match_names, statistics_of
from registry.torch.frozen_plan import Modes
from registry.torch.uninitialised import iter_tensors
from registry.torch.unwrap import unwrap_module

_ATTRIBUTE = "_weighbridge_finetune"
_MAX_GLOBS = 1_000
"""What `Recipe` takes."""
_NUMBER = re.compile(r"\d+")


def remember(module: nn.Module, base: str | None, head: Sequence[str]) -> None:
    """Note on a module what its recipe cannot be read off from.

    Args:
        module: without wrappers.
        base: the reference that its weights came from.
        head: names of the modules that were new or replaced.
    """
    module.__dict__[_ATTRIBUTE] = {"base": base, "head": list(head)}


def find_recipe(module: nn.Module) -> Recipe | None:
    """Return how a module is being fine-tuned, None when nothing prepared it and nothing froze any of it.

    What is frozen is read off the module as it is now.

    Raises:
        InvalidRequestError: what is frozen follows no order, so that a recipe would be too long.
    """
    inner = unwrap_module(module).module
    known = cast("dict[str, Any] | None", inner.__dict__.get(_ATTRIBUTE))
    frozen = frozen_names(inner)
    rows = rows_of(inner)
    if known is None and not frozen and not rows:
        return None
    statistics, counting = _split_statistics(inner, frozen)
    parameters = list(inner.named_parameters(remove_duplicate=False))
    kept = [name for name, each in parameters if not each.requires_grad] + statistics
    others = [name for name, each in parameters if each.requires_grad] + counting
    modes = modes_of(inner)
    return Recipe(
        base=(known or {}).get("base"),
        head=(known or {}).get("head", []),
        frozen=short_globs(kept, others),
        rows=cast("Any", rows),
        batch_norm=modes.batch_norm,
        dropout=modes.dropout,
    )


def recipe_for_push(value: object, notices: list[str]) -> Recipe | None:
    """Return the recipe of what is pushed, None for what has none; a recipe that would be too long becomes a notice."""
    if not isinstance(value, nn.Module):
        return None
    try:
        return find_recipe(value)
    except InvalidRequestError as error:
        notices.append(f"No recipe was recorded. {error.detail}")
        return None


def apply_recipe(module: nn.Module, recipe: Recipe | Mapping[str, Any] | str | object) -> Frozen:
    """Freeze a module as a recipe says; what an earlier call froze and the recipe does not, trains.

    Args:
        module: with the names that the recipe is over.
        recipe: a recipe, its JSON, or a version that has one.

    Raises:
        InvalidRequestError: it is no recipe, or a glob or name in it matches nothing in the module.
    """
    known = read_recipe(recipe)
    inner = open_module(module)
    chosen = match_names("frozen", known.frozen, inner)
    chosen |= _covered(inner, chosen)
    frozen = freeze_names(inner, chosen, Modes(known.batch_norm, known.dropout), known.rows)
    remember(inner, known.base, known.head)
    return frozen


def read_recipe(given: object) -> Recipe:
    """Return the recipe that is meant.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        if isinstance(given, str | bytes):
            return Recipe.model_validate_json(given)
        if isinstance(given, Mapping):
            return Recipe.model_validate(dict(cast("Mapping[str, Any]", given)))
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidRequestError(f"It is no recipe: {reasons}.") from error
    found = given if isinstance(given, Recipe) else getattr(given, "recipe", None)
    if not isinstance(found, Recipe):
        raise InvalidRequestError(
            f"There is no recipe in this {type(given).__name__}. A version has one when its module was prepared by "
            "`prepare_finetune` or frozen by `freeze` before the push, or when the push said recipe=."
        )
    return found


def _split_statistics(module: nn.Module, frozen: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the names of running statistics that are frozen, and of those that are not."""
    names = [
        f"{prefix}.{name}" if prefix else name for prefix, each in iter_modules(module) for name in statistics_of(each)
    ]
    return [name for name in names if name in frozen], [name for name in names if name not in frozen]


def _covered(module: nn.Module, chosen: Collection[str]) -> set[str]:
    """Return the names of modules all of whose tensors are chosen: `attn` is when `attn.*` was, `""` when all."""
    names = [name for name, _ in iter_tensors(module)]
    started = {parent for name in names if name in chosen for parent in _parents(name)}
    return started - {parent for name in names if name not in chosen for parent in _parents(name)}


def _parents(name: str) -> Iterable[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name


def short_globs(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return globs that match all of `names` and none of `others`: of whole modules, or else of all layers alike.

    Raises:
        InvalidRequestError: they would be more than a recipe holds.
    """
    if names and not others:
        return ["*"]
    globs = shorten(names, others)
    if len(globs) <= _MAX_GLOBS:
        return globs
    alike: dict[str, bool] = {}
    for each in globs:
        for wider in _iter_wider(each):
            if wider == each:
                alike[each] = True
            elif wider not in alike:
                matches = re.compile(fnmatch.translate(wider)).match
                alike[wider] = not any(map(matches, others))
            if alike[wider]:
                break
    alike = {each: fits for each, fits in alike.items() if fits}
    if len(alike) > _MAX_GLOBS:
        raise InvalidRequestError(
            f"{len(alike):,} globs would be needed to say what is frozen; a recipe holds {_MAX_GLOBS:,}. Pass recipe= "
            "with globs of your own."
        )
    return list(alike)


def _iter_wider(glob: str) -> Iterator[str]:
    """Yield a glob with any number for its numbers, then with fewer and fewer of their last digits open."""
    yield _NUMBER.sub("*", glob)
    for kept in range(max((len(each) for each in _NUMBER.findall(glob)), default=0)):
        yield _NUMBER.sub(lambda found, kept=kept: found[0][:kept] + "?" * len(found[0][kept:]), glob)
    yield glob
