"""Finding what would load: through the real index, on both databases."""

import io

import pytest
import torch
from actors import ADA
from sqlalchemy import delete, event, func, select, update

from registry.architecture import Architecture
from registry.compat.places import Target
from registry.errors import InvalidMetadataError, PermissionDeniedError, TooLargeError
from registry.schema import AnnotationsUpdate, ModelUpdate, VersionCreate
from registry.teams import Role, Scope
from registry.tensor_spec import TensorSpec
from storage.access import Caller
from storage.architectures import (
    MAX_TENSORS,
    architecture_of_document,
    decode_document,
    encode_architecture,
    read_architecture,
)
from storage.backup import backup, restore
from storage.compatible import find_compatible
from storage.draft import begin
from storage.kept import Kept
from storage.metadata.architecture_backfill import fill_index
from storage.metadata.architecture_tables import ArchitectureMarkRow, ArchitectureRow, ArchitectureUseRow
from storage.metadata.records import Sight, UseQuery
from storage.models import update_model
from storage.publish import publish
from storage.shortlist import Candidate, find_candidates, find_kept, find_source

CALLER = Caller("tester", is_administrator=True)
NET = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,), "norm.weight": (8,), "norm.bias": (8,), "fc.weight": (10, 8)}
RNN = {"rnn.weight_ih_l0": (32, 4), "rnn.weight_hh_l0": (32, 8), "rnn.bias_ih_l0": (32,)}


def architecture(shapes, prefix=""):
    return Architecture(TensorSpec(prefix + name, shape, "float32") for name, shape in shapes.items())


def torch_file(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def state_dict(shapes, dtype=torch.float32):
    return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}


def push_files(stores, model, files, **metadata):
    draft = begin(stores, CALLER, "vision", model)
    for path, content in files.items():
        incoming = draft.open_file(path)
        incoming.write(torch_file(content))
        draft.close_file(incoming)
    return publish(draft, VersionCreate.model_validate(metadata))


def push_net(stores, model="net", shapes=NET, **metadata):
    return push_files(stores, model, {"model.pt": state_dict(shapes)}, **metadata)


def count(stores, row):
    return stores.catalog.database.read(lambda session: session.scalar(select(func.count()).select_from(row)))


def references(stores, target, **options):
    found = find_compatible(stores, CALLER, target, **options)
    return [version.reference for match in found for version in match.versions]


@pytest.fixture(params=["sqlite", "postgres"])
def stores(request, open_installation):
    url = request.getfixturevalue("migrated_postgres") if request.param == "postgres" else None
    return open_installation("one", url)


def test_a_version_is_found_for_its_own_architecture_and_nested_in_another(stores):
    push_net(stores)
    push_net(stores, "rnn", RNN)
    [match] = find_compatible(stores, CALLER, architecture(NET))
    assert (match.verdict, match.loads, match.into, match.share, match.score) == ("exact", True, "", 1.0, 1.0)
    assert [version.reference for version in match.versions] == ["vision/net:1"]
    trunk = {name: shape for name, shape in NET.items() if not name.startswith("fc")}
    nested = architecture({**{f"encoder.{name}": shape for name, shape in trunk.items()}, "decoder.weight": (64, 8)})
    [match] = find_compatible(stores, CALLER, nested)
    assert (match.into, match.verdict, match.needs) == ("encoder", "superset", ["drop_extra"])
    assert 0 < match.share < match.coverage == 1.0
    assert match.matched == 4
    assert match.tensors == 5


def test_what_fits_whole_comes_before_what_has_another_head(stores):
    push_net(stores, "other_head", {**NET, "fc.weight": (1000, 8)})
    push_net(stores)
    assert references(stores, architecture(NET)) == ["vision/net:1", "vision/other_head:1"]
    assert references(stores, architecture(NET), limit=1) == ["vision/net:1"]


def test_fine_tunes_of_one_base_are_one_match_with_a_count(stores):
    for _ in range(3):
        push_net(stores)
    push_net(stores, "copy")
    [match] = find_compatible(stores, CALLER, architecture(NET))
    assert [version.reference for version in match.versions] == ["vision/copy:1", "vision/net:3"]
    assert (match.version_count, match.model_count) == (4, 2)
    assert count(stores, ArchitectureRow) == 1
    assert count(stores, ArchitectureUseRow) == 4


def test_deleted_purged_and_deprecated_versions_are_never_found(stores):
    catalog = stores.catalog
    for _ in range(3):
        push_net(stores)
    catalog.annotate("vision", "net", 3, AnnotationsUpdate(deprecated="worse"), None, ADA)
    assert references(stores, architecture(NET)) == ["vision/net:2"]
    catalog.delete_version("vision", "net", 2, ADA)
    assert references(stores, architecture(NET)) == ["vision/net:1"]
    catalog.delete_model("vision", "net", ADA)
    assert references(stores, architecture(NET)) == []
    catalog.restore_model("vision", "net", ADA)
    assert references(stores, architecture(NET)) == ["vision/net:1"]
    for number in (1, 3):
        catalog.delete_version("vision", "net", number, ADA)
    for number in (1, 2):
        catalog.purge_version("vision", "net", number, ADA, "room")
    assert count(stores, ArchitectureRow) == 1
    catalog.purge_version("vision", "net", 3, ADA, "room")
    assert [count(stores, row) for row in (ArchitectureRow, ArchitectureMarkRow, ArchitectureUseRow)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("caller", "seen"),
    [
        (Caller("member", roles={"vision": Role.READER}), {"vision/open:1", "vision/secret:1", "vision/other:1"}),
        (Caller("outsider", roles={"audio": Role.ADMIN}), {"vision/open:1"}),
        (Caller("job", is_administrator=True, targets=frozenset({"vision/secret"})), {"vision/secret:1"}),
        (Caller("job", roles={"vision": Role.READER}, targets=frozenset({"audio"})), set()),
    ],
)
def test_a_model_that_the_caller_may_not_read_never_appears(stores, caller, seen):
    push_net(stores, "open")
    push_net(stores, "secret")
    push_net(stores, "other", {**NET, "fc.weight": (12, 8)})
    update_model(stores, CALLER, "vision", "open", ModelUpdate(visibility="everyone"))

    found = find_compatible(stores, caller, architecture(NET))

    assert {version.reference for match in found for version in match.versions} == seen
    assert sum(match.version_count for match in found) == len(seen)


def test_callers_who_ask_in_turns_are_each_told_what_they_may_read(stores):
    push_net(stores, "open")
    push_net(stores, "secret", {**NET, "fc.weight": (12, 8)})
    update_model(stores, CALLER, "vision", "open", ModelUpdate(visibility="everyone"))
    member, outsider = Caller("one", roles={"vision": Role.READER}), Caller("one", roles={"audio": Role.READER})
    narrowed = Caller("one", roles={"vision": Role.READER}, targets=frozenset({"vision/secret"}))
    seen = [(member, {"open", "secret"}), (outsider, {"open"}), (narrowed, {"secret"}), (CALLER, {"open", "secret"})]
    for caller, models in (*seen, *reversed(seen)):
        found = find_compatible(stores, caller, architecture(NET))
        assert {version.model for match in found for version in match.versions} == models
        assert find_compatible(stores, caller, architecture(NET), team="audio") == []


def test_what_is_kept_of_an_architecture_is_found_only_by_those_who_may_read_a_version_of_it(stores):
    outsider = Caller("outsider", roles={"audio": Role.ADMIN})
    push_net(stores)
    assert references(stores, architecture(NET)) == ["vision/net:1"]
    assert find_compatible(stores, outsider, architecture(NET)) == []
    update_model(stores, CALLER, "vision", "net", ModelUpdate(visibility="everyone"))
    assert len(find_compatible(stores, outsider, architecture(NET))) == 1


def test_the_document_of_an_architecture_that_is_kept_is_not_read_again(stores):
    push_net(stores)
    found = find_compatible(stores, CALLER, architecture(NET))
    [candidate] = find_candidates(stores, Target(architecture(NET)))
    everybody = UseQuery(Sight(everything=True))
    at = candidate.architecture_id
    assert stores.catalog.find_used([at], everybody, known=find_kept([candidate])) == {at: None}
    with stores.catalog.database.engine.begin() as connection:
        connection.execute(update(ArchitectureRow).values(document=b"no document"))
    assert find_compatible(stores, CALLER, architecture(NET)) == found


def test_architectures_are_kept_as_far_as_there_is_room(stores, monkeypatch):
    monkeypatch.setattr("storage.shortlist._kept", Kept(8, lambda each: len(each.architecture.tensors)))
    push_net(stores)
    push_net(stores, "rnn", RNN)
    push_net(stores, "other", {**NET, "fc.weight": (12, 8)})
    candidates = [find_candidates(stores, Target(architecture(shapes)))[0] for shapes in (NET, RNN)]
    for shapes in (NET, RNN, NET):
        assert references(stores, architecture(shapes))
    assert sum(len(each.architecture.tensors) for each in find_kept(candidates).values()) <= 8


def test_questions_of_any_size_look_for_marks_by_one_statement(stores):
    push_net(stores)
    sent = set()
    event.listen(stores.catalog.database.engine, "before_cursor_execute", lambda *seen: sent.add(seen[2]))
    for shapes in (NET, RNN | NET, {"conv.weight": (8, 3, 3, 3)}):
        find_candidates(stores, Target(architecture(shapes)))
    assert len([each for each in sent if "architecture_marks" in each]) == 1


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
def test_postgresql_has_one_plan_for_any_number_of_architectures(stores):
    for at in range(3):
        push_net(stores, f"net{at}", {**NET, "fc.weight": (12 + at, 8)})
    sent = set()
    event.listen(stores.catalog.database.engine, "before_cursor_execute", lambda *seen: sent.add(seen[2]))
    for limit in (1, 2, 3):
        find_compatible(stores, CALLER, architecture(NET), limit=limit)
    assert len([each for each in sent if each.startswith(("SELECT", "WITH"))]) == 4


def test_a_token_that_is_not_for_reading_finds_nothing(stores):
    with pytest.raises(PermissionDeniedError, match="read"):
        find_compatible(stores, Caller("job", is_administrator=True, scopes=frozenset({Scope.PUSH})), architecture(NET))


def test_team_and_kind_narrow_the_search(stores):
    push_net(stores)
    push_files(stores, "run", {"model.pt": {"state_dict": state_dict(NET), "epoch": 3}})
    assert references(stores, architecture(NET), kind="checkpoint") == ["vision/run:1"]
    assert references(stores, architecture(NET), team="vision", kind="state_dict") == ["vision/net:1"]
    assert references(stores, architecture(NET), team="audio") == []


def test_parts_and_artifacts_that_nothing_chooses_are_found_by_their_names(stores):
    push_files(stores, "gan", {"model.pt": {"netG": state_dict(NET), "netD": state_dict(RNN)}})
    push_files(stores, "two", {"a/model.pt": state_dict(NET), "b/model.pt": state_dict(RNN)})
    found = [version for match in find_compatible(stores, CALLER, architecture(RNN)) for version in match.versions]
    assert [(version.reference, version.part) for version in found] == [
        ("vision/two:1/b/model.pt", None),
        ("vision/gan:1", "netD"),
    ]


def test_a_lone_moving_average_is_found_without_a_warning(stores):
    push_files(stores, "ema", {"model.pt": {"state_dict_ema": state_dict(NET), "epoch": 1}})
    assert references(stores, architecture(NET)) == ["vision/ema:1"]


def test_an_index_that_was_backed_up_finds_the_same(stores, open_installation, tmp_path):
    push_net(stores)
    backup(stores, CALLER, tmp_path / "backup")
    new = open_installation("new")
    restore(new, CALLER, tmp_path / "backup")
    assert find_compatible(new, CALLER, architecture(NET)) == find_compatible(stores, CALLER, architecture(NET))


@pytest.mark.parametrize(
    "shapes",
    [
        {"": (2, 2), "x": (3,), "y": (1,)},
        {"ünïcode.weight": (4, 4), "a b.weight": (4,), "new\nline.weight": (4,)},
        {"nul\0.weight": (4, 4), "nul\0.bias": (4,), "$dict.weight": (4,)},
        {".".join("a" * 50) + f".{last}": (4, 4) for last in "xyz"},
        {"empty.weight": (0, 4), "empty.bias": (0,), "fc.weight": (4, 4)},
    ],
    ids=["no name", "odd characters", "NUL", "nested deep", "zero-size"],
)
def test_odd_names_and_shapes_are_found_too(stores, shapes):
    push_net(stores, "odd", shapes)
    assert references(stores, architecture(shapes)) == ["vision/odd:1"]


def test_modules_nested_thousands_deep_are_published_and_not_indexed(stores):
    deep = {".".join(["a"] * 5_000) + f".{last}": (4, 4) for last in "xyz"}
    push_net(stores, "deep", deep)
    assert count(stores, ArchitectureRow) == 0
    with pytest.raises(InvalidMetadataError, match="5,001 parts"):
        find_compatible(stores, CALLER, architecture(deep))


def test_a_target_without_parameters_matches_nothing(stores):
    push_net(stores)
    assert find_compatible(stores, CALLER, Architecture([])) == []
    assert find_compatible(stores, CALLER, architecture({"empty.weight": (0, 4)})) == []


def test_a_document_holds_all_that_a_comparison_looks_at():
    tensors = [
        TensorSpec("a.weight", (2, 3), "float16", "parameter", "a.weight"),
        TensorSpec("b.weight", (2, 3), "float16", "parameter", "a.weight"),
        TensorSpec("b.mask", (), "bool", "buffer", None, "sparse_coo", quantised=True),
    ]
    kept = Architecture(tensors, entries=["b._extra_state"], metadata={"": {"version": 1}, "b": {}})
    digest, document = encode_architecture(kept)
    again = architecture_of_document(decode_document(document))
    assert list(again.tensors.values()) == tensors
    assert (again.entries, again.metadata) == (kept.entries, {"": {"version": 1}})
    assert encode_architecture(again)[0] == digest


def test_a_candidate_that_is_left_out_by_its_names_and_shapes_is_not_made(monkeypatch):
    monkeypatch.setattr("storage.shortlist._kept", Kept(100, lambda each: len(each.architecture.tensors)))
    kept = architecture(NET)
    digest, document = encode_architecture(kept)
    candidate = Candidate(1, digest, 1.0, 1.0, shares_module=True)
    seen = []
    assert find_source(candidate, document, lambda *told: seen.append(told) or True) is None
    assert seen == [(tuple(NET), tuple(NET.values()))]
    made = find_source(candidate, document, lambda *_: False)
    assert made.architecture.tensors == kept.tensors
    assert find_kept([candidate]) == {1: made}
    assert find_source(candidate, made, lambda *told: seen.append(told) or True) is None
    assert seen[0] == seen[1]
    assert find_source(candidate, made, lambda *_: False) is made


TENSOR = {"name": "w", "shape": [2], "dtype": "float32"}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({}, InvalidMetadataError),
        ({"tensors": 3}, InvalidMetadataError),
        ({"tensors": [3]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "name": "\ud800"}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "name": 3}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "tie": []}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "shape": [-1]}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "shape": [1 << 70]}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "shape": [1] * 100}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "shape": "22"}]}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "name": "a." * 5_000}]}, InvalidMetadataError),
        ({"tensors": [TENSOR, TENSOR]}, InvalidMetadataError),
        ({"tensors": [TENSOR], "metadata": 3}, InvalidMetadataError),
        ({"tensors": [{**TENSOR, "name": str(at)} for at in range(MAX_TENSORS + 1)]}, TooLargeError),
        ({"tensors": [], "entries": ["x"] * (MAX_TENSORS + 1)}, TooLargeError),
    ],
)
def test_what_is_no_architecture_or_too_large_has_a_named_error(document, error):
    with pytest.raises(error):
        read_architecture(document)


def contents(stores):
    """Return the index as rows, whatever the ids of its architectures are."""

    def read(session):
        architectures = select(ArchitectureRow.digest, ArchitectureRow.weight_count, ArchitectureRow.document)
        marks = select(ArchitectureMarkRow.mark, ArchitectureMarkRow.count, ArchitectureRow.digest).join(
            ArchitectureRow
        )
        use = ArchitectureUseRow
        uses = select(use.version_id, use.position, use.model_id, use.path, use.part, ArchitectureRow.digest)
        return [set(map(tuple, session.execute(each))) for each in (architectures, marks, uses.join(ArchitectureRow))]

    return stores.catalog.database.read(read)


def test_the_migration_fills_the_index_as_pushes_do(stores):
    push_net(stores)
    push_net(stores, "rnn", RNN)
    push_files(stores, "gan", {"model.pt": {"netG": state_dict(NET), "netD": state_dict(RNN)}})
    push_files(stores, "nothing", {"model.pt": {"epoch": 3}})
    before = contents(stores)
    assert [len(rows) for rows in before] == [2, 18, 4]
    for row in (ArchitectureUseRow, ArchitectureMarkRow, ArchitectureRow):
        stores.catalog.database.write(lambda session, row=row: session.execute(delete(row)))
    stores.catalog.database.write(lambda session: fill_index(session.connection()))
    assert contents(stores) == before


def test_a_search_is_three_transactions(stores):
    push_net(stores)
    begun = []
    event.listen(stores.catalog.database.engine, "begin", begun.append)
    assert references(stores, architecture(NET)) == ["vision/net:1"]
    assert len(begun) == 3


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_a_search_walks_no_whole_table(stores):
    push_net(stores)
    sent = []
    engine = stores.catalog.database.engine
    event.listen(engine, "before_cursor_execute", lambda *seen: sent.append((seen[2], seen[3])))
    assert references(stores, architecture(NET), team="vision", kind="state_dict") == ["vision/net:1"]
    selects = [(statement, values) for statement, values in sent if statement.startswith(("SELECT", "WITH"))]
    with engine.connect() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all() for text, values in selects]
    assert len(plans) == 4
    scanned = [row.detail for steps in plans for row in steps if row.detail.startswith("SCAN")]
    # What the question brought, and what was found of that.
    assert {each for each in scanned if "json_each" not in each} == {"SCAN asked", "SCAN shared"}
