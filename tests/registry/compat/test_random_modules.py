"""Property: a report without demands means a strict load after which every value is the source's, and only that."""

from collections import OrderedDict

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import modules, saved

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.compat.rename_map import RenameMap
from registry.digest import blake3_digest
from registry.errors import AmbiguousPrefixError
from registry.torch.architecture import architecture_of, architecture_of_state_dict


def described(state_dict):
    """The architecture with digests, as a manifest has it."""
    found = architecture_of_state_dict(state_dict)
    specs = (spec._replace(digest=digest_of(state_dict[name])) for name, spec in found.tensors.items())
    return Architecture(specs, entries=found.entries, metadata=found.metadata)


def digest_of(tensor):
    return blake3_digest(bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data))


def takes_every_value(module, state_dict):
    """Whether torch loads strictly, and every value is then the source's, converted."""
    try:
        module.load_state_dict(state_dict)
    except RuntimeError:
        return False
    loaded = module.state_dict()
    return all(
        name in loaded and torch.equal(loaded[name].reshape(value.shape), value.to(loaded[name].dtype))
        for name, value in state_dict.items()
        if value.numel() == loaded.get(name, value).numel()
    )


def demands_nothing(report):
    only_casts = set(report.needs) <= {"cast", "rename"}
    return report.verdict == "exact" and only_casts and all(each.effect != "refused" for each in report.casts)


def converts_no_kind(architecture, target, names):
    """Whether torch would do nothing that we refuse: what it does to the kind of a number is no matter of values."""
    report = compare(architecture, target, renames=names)
    return all(each.effect != "refused" for each in report.casts)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data(), module=modules)
def test_exact_without_demands_is_a_strict_load_of_every_value(data, module):
    state_dict = data.draw(saved(module))
    target, source = architecture_of(module), described(state_dict)
    try:
        report = compare(source, target)
    except AmbiguousPrefixError:
        return
    renamed = report.renamed(state_dict)
    if not converts_no_kind(source, target, report.renames):
        assert not demands_nothing(report)
        return
    dtypes = [{source.tensors[name].dtype for name in each.source_names} for each in report.conflicts]
    if any(len(each) > 1 for each in dtypes):
        # Digests do not tell whether values of two dtypes are equal after they were converted: then it is a conflict.
        assert not demands_nothing(report)
        return
    assert demands_nothing(report) is takes_every_value(module, renamed), str(report)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data(), module=modules, other=modules)
def test_missing_and_unexpected_names_are_those_of_torch(data, module, other):
    state_dict = data.draw(saved(data.draw(st.sampled_from([module, other]))))
    names = {name: name for name in state_dict}
    report = compare(architecture_of_state_dict(state_dict), architecture_of(module), renames=RenameMap(names))
    mismatched = {each.name for each in report.mismatched}
    kept = OrderedDict((name, value) for name, value in state_dict.items() if name not in mismatched)
    if hasattr(state_dict, "_metadata"):
        kept._metadata = state_dict._metadata
    answer = module.load_state_dict(kept, strict=False)
    assert {*report.missing, *report.tied} == set(answer.missing_keys) - mismatched
    assert {each.name for each in report.unexpected} == set(answer.unexpected_keys)
