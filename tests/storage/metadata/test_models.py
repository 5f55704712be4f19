import pytest
from actors import ADA, BOB, EVERYTHING

from registry.errors import (
    InvalidCursorError,
    InvalidMetadataError,
    InvalidRequestError,
    ModelExistsError,
    ModelNotFoundError,
    NotDeletedError,
)
from registry.schema import ModelCreate, ModelUpdate
from storage.metadata.catalog import Catalog
from storage.metadata.records import ModelQuery


def names(page):
    return [model.full_name for model in page.items]


def test_a_created_model_is_got_as_it_was_described(catalog):
    created = catalog.create_model("vision", "resnet50", ModelCreate(description="50", tags={"a": "1"}), ADA)
    assert catalog.get_model("vision", "resnet50") == created
    assert (created.description, created.tags, created.created_by) == ("50", {"a": "1"}, "ada")
    assert (created.latest, created.version_count, created.deleted_at) == (None, 0, None)
    assert created.created_at.utcoffset().total_seconds() == 0


def test_a_live_model_cannot_be_created_again(catalog):
    catalog.create_model("vision", "resnet50", ModelCreate(), ADA)
    with pytest.raises(ModelExistsError, match="vision/resnet50"):
        catalog.create_model("vision", "resnet50", ModelCreate(), BOB)


def test_an_unknown_model_is_answered_with_what_was_probably_meant(catalog):
    catalog.create_model("vision", "resnet50", ModelCreate(), ADA)
    with pytest.raises(ModelNotFoundError, match="Did you mean `vision/resnet50`") as caught:
        catalog.get_model("vision", "restnet50")
    assert caught.value.extra == {"suggestions": ["vision/resnet50"]}


def test_suggestions_name_no_model_of_another_team(catalog):
    catalog.create_model("secret", "resnet50", ModelCreate(), ADA)
    with pytest.raises(ModelNotFoundError) as caught:
        catalog.get_model("vision", "resnet50")
    assert "secret" not in str(caught.value)


def test_an_update_keeps_what_it_leaves_out_and_drops_tags_set_to_null(catalog):
    catalog.create_model("vision", "resnet50", ModelCreate(description="old", tags={"a": "1", "b": "2"}), ADA)
    updated = catalog.update_model("vision", "resnet50", ModelUpdate(tags={"a": None, "c": "3"}), ADA)
    assert (updated.description, updated.tags) == ("old", {"b": "2", "c": "3"})
    assert catalog.update_model("vision", "resnet50", ModelUpdate(description="new"), ADA).tags == updated.tags
    assert catalog.get_model("vision", "resnet50").description == "new"


def test_a_model_never_gets_more_tags_than_the_limit(catalog):
    catalog.create_model("vision", "m", ModelCreate(tags={f"a{n}": "" for n in range(200)}), ADA)
    with pytest.raises(InvalidMetadataError, match="201"):
        catalog.update_model("vision", "m", ModelUpdate(tags={"one more": ""}), ADA)


def test_a_text_that_postgresql_cannot_keep_is_refused_by_name(postgres_url):
    catalog = Catalog.open(postgres_url)
    with pytest.raises(InvalidMetadataError, match="NUL"):
        catalog.create_model("vision", "m", ModelCreate.model_construct(description="\0", tags={}), ADA)
    catalog.close()


def test_the_longest_tags_are_kept_and_found(catalog):
    value = "\U0001f600" * 2000
    catalog.create_model("vision", "m", ModelCreate(tags={"語" * 200: value}), ADA)
    catalog.create_model("vision", "n", ModelCreate(tags={"語" * 200: value[:-1] + "x"}), ADA)
    assert names(catalog.list_models(EVERYTHING, ModelQuery(tags={"語" * 200: value}))) == ["vision/m"]


def test_deleting_hides_a_model_with_its_versions_and_restoring_shows_all_again(catalog, push):
    push(aliases=["prod"])
    before = catalog.get_version("vision", "resnet50", "prod")
    assert catalog.delete_model("vision", "resnet50", ADA).deleted_at is not None
    with pytest.raises(ModelNotFoundError, match="deleted by ada"):
        catalog.get_model("vision", "resnet50")
    with pytest.raises(ModelNotFoundError):
        catalog.get_version("vision", "resnet50", "1")
    with pytest.raises(ModelNotFoundError):
        catalog.get_artifact("vision", "resnet50", "1", "model.pt")
    assert names(catalog.list_models(EVERYTHING, ModelQuery())) == []
    catalog.restore_model("vision", "resnet50", ADA)
    assert catalog.get_version("vision", "resnet50", "prod") == before
    with pytest.raises(NotDeletedError):
        catalog.restore_model("vision", "resnet50", ADA)


def test_a_deleted_name_created_again_hides_what_was_and_continues_its_numbers(catalog, push):
    push(aliases=["prod"])
    push()
    catalog.delete_model("vision", "resnet50", ADA)
    revived = catalog.create_model("vision", "resnet50", ModelCreate(description="again"), BOB)
    assert (revived.version_count, revived.latest, revived.created_by) == (0, None, "bob")
    assert revived.description == "again"
    assert catalog.list_versions("vision", "resnet50").items == []
    assert catalog.list_aliases("vision", "resnet50") == []
    assert push().number == 3
    assert [v.number for v in catalog.list_versions("vision", "resnet50", include_deleted=True).items] == [3, 2, 1]


def test_pushing_to_a_deleted_name_begins_it_anew(catalog, push):
    push(aliases=["prod"])
    catalog.update_model("vision", "resnet50", ModelUpdate(description="old", tags={"a": "1"}), ADA)
    catalog.delete_model("vision", "resnet50", ADA)
    assert push(by=BOB).number == 2
    model = catalog.get_model("vision", "resnet50")
    assert (model.latest, model.version_count, model.created_by) == (2, 1, "bob")
    assert (model.description, model.tags) == ("", {})
    assert catalog.list_aliases("vision", "resnet50") == []


def test_search_finds_every_word_anywhere_ignoring_case_in_every_script(catalog):
    catalog.create_model("vision", "ResNet50", ModelCreate(description="Für Äpfel"), ADA)
    catalog.create_model("vision", "vit", ModelCreate(tags={"data": "ImageNet 100%"}), ADA)
    assert names(catalog.list_models(EVERYTHING, ModelQuery(search="resnet"))) == ["vision/ResNet50"]
    assert names(catalog.list_models(EVERYTHING, ModelQuery(search="äpfel FÜR"))) == ["vision/ResNet50"]
    assert names(catalog.list_models(EVERYTHING, ModelQuery(search="imagenet 100%"))) == ["vision/vit"]
    assert names(catalog.list_models(EVERYTHING, ModelQuery(search="resnet vit"))) == []
    assert names(catalog.list_models(EVERYTHING, ModelQuery(search="%"))) == ["vision/vit"]
    catalog.update_model("vision", "vit", ModelUpdate(tags={"data": None}), ADA)
    assert names(catalog.list_models(EVERYTHING, ModelQuery(search="imagenet"))) == []


def test_lists_are_filtered_by_team_tag_and_kind(catalog, push):
    push("vision/a", kind="module")
    push("vision/b", kind="state_dict")
    push("audio/c", kind="state_dict")
    catalog.update_model("audio", "c", ModelUpdate(tags={"data": "x"}), ADA)
    assert names(catalog.list_models(EVERYTHING, ModelQuery(team="vision"))) == ["vision/a", "vision/b"]
    assert names(catalog.list_models(EVERYTHING, ModelQuery(kind="state_dict"))) == ["audio/c", "vision/b"]
    assert names(catalog.list_models(EVERYTHING, ModelQuery(tags={"data": "x"}))) == ["audio/c"]
    assert names(catalog.list_models(EVERYTHING, ModelQuery(tags={"data": "y"}))) == []


@pytest.mark.parametrize("sort", ["name", "-name", "updated", "-updated", "created", "-created"])
def test_pages_walk_every_model_once_in_order(catalog, sort):
    expected = sorted(["a/m", "a/n", "a-b/m", "B/z", "b/m", "a/M"], key=lambda full: full.split("/"))
    for full in expected:
        catalog.create_model(*full.split("/"), ModelCreate(), ADA)
    seen, cursor = [], None
    while True:
        page = catalog.list_models(EVERYTHING, ModelQuery(sort=sort), cursor, 2)
        seen += names(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == (expected[::-1] if sort.startswith("-") else expected)


@pytest.mark.parametrize(
    "cursor", ["", "x", "bnVsbA", "W10", "WyJuYW1lIiwgW11d", "WyJuYW1lIiwgWzEsMl1d", "é", "a" * 9999]
)
def test_a_cursor_of_nobody_is_refused(catalog, cursor):
    with pytest.raises(InvalidCursorError):
        catalog.list_models(EVERYTHING, ModelQuery(), cursor, 2)


def test_a_cursor_of_another_sort_is_refused(catalog):
    for name in "abc":
        catalog.create_model("vision", name, ModelCreate(), ADA)
    cursor = catalog.list_models(EVERYTHING, ModelQuery(sort="name"), None, 1).cursor
    with pytest.raises(InvalidCursorError, match="sort 'name'"):
        catalog.list_models(EVERYTHING, ModelQuery(sort="-updated"), cursor, 1)


def test_unknown_sorts_and_limits_out_of_range_are_refused(catalog):
    with pytest.raises(InvalidRequestError, match="size"):
        catalog.list_models(EVERYTHING, ModelQuery(sort="size"))
    for limit in (0, -1, 1001):
        with pytest.raises(InvalidRequestError, match=str(limit)):
            catalog.list_models(EVERYTHING, ModelQuery(), None, limit)
