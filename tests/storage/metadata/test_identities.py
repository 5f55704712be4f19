"""Bindings to other services, the JWTs of jobs and sign-ins, on both databases and from many sides at once."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from actors import ADA

from registry.errors import ConflictError, IdentityNotFoundError, PermissionDeniedError, WeighbridgeError
from registry.identities import IdentityCreate
from registry.teams import Role, TokenCreate, UserUpdate
from storage.metadata.identities import MAX_IDENTITIES
from storage.metadata.records import Arrival, Secret, Word
from storage.metadata.team_tables import IdentityRow, TokenRow, UserRow

ISSUER = "https://id.example.com"
JOB = Word(ISSUER, "job")
PERSON = Word(ISSUER, "1")


def soon():
    return datetime.now(UTC) + timedelta(hours=1)


def secret(name="a"):
    return Secret(f"wb_{name}", f"sha256:{name}", soon())


def arrival(word=PERSON, name="grace", roles=None, *, administrator=False):
    return Arrival(word, name, None, roles or {}, administrator)


@pytest.fixture
def nightly(catalog):
    """A job's user, bound to the subject `job`."""
    catalog.create_user("nightly", is_administrator=False, by=ADA)
    create = IdentityCreate(issuer=ISSUER, subject="job", scopes=["push", "read"], targets=["vision"])
    return catalog.create_identity("nightly", create, ADA)


def accept(catalog, word=JOB, name="a"):
    return catalog.accept_job(word, secret(name), None, None)


def test_an_accepted_jwt_is_a_token_of_the_binding(catalog, nightly):
    assert accept(catalog)

    known = catalog.find_token("wb_a")
    assert (known.user, known.kind, known.word, known.is_live) == ("nightly", "job", JOB, True)
    assert (sorted(known.scopes), known.targets) == (["push", "read"], {"vision"})


def test_a_jwt_that_comes_many_times_at_once_is_one_token(catalog, nightly, at_once, rows):
    assert at_once(8, lambda _: accept(catalog)) == [True] * 8

    assert rows(TokenRow) == 1


def test_a_name_that_another_subject_has_already_lets_nobody_in(catalog, nightly):
    catalog.create_user("other", is_administrator=True, by=ADA)
    catalog.create_identity("other", IdentityCreate(issuer=ISSUER, subject="other", scopes=["admin"]), ADA)
    assert accept(catalog, Word(ISSUER, "other"))

    assert not accept(catalog)


def test_a_binding_that_ends_leaves_no_live_token_however_many_come_meanwhile(catalog, nightly, at_once):
    def work(number):
        if number == 3:
            return catalog.remove_identity("nightly", nightly.id, ADA)
        return accept(catalog, name=str(number))

    at_once(7, work)

    tokens = catalog.list_tokens("nightly").items
    assert [token.prefix for token in tokens if token.revoked_at is None] == []
    assert not accept(catalog, name="later")


def test_a_subject_is_bound_once_and_the_binding_of_another_user_is_not_found(catalog, nightly, at_once):
    catalog.create_user("other", is_administrator=False, by=ADA)
    create = IdentityCreate(issuer=ISSUER, subject="new", scopes=["read"])

    made = at_once(4, lambda _: catalog.create_identity("other", create, ADA))

    assert sorted(isinstance(each, ConflictError) for each in made) == [False, True, True, True]
    with pytest.raises(IdentityNotFoundError):
        catalog.remove_identity("other", nightly.id, ADA)


def test_a_user_has_a_bounded_number_of_identities(catalog, nightly):
    for number in range(MAX_IDENTITIES - 1):
        catalog.create_identity("nightly", IdentityCreate(issuer=ISSUER, subject=str(number), scopes=["read"]), ADA)

    with pytest.raises(ConflictError):
        catalog.create_identity("nightly", IdentityCreate(issuer=ISSUER, subject="x", scopes=["read"]), ADA)


def test_somebody_new_who_signs_in_many_times_at_once_is_one_user(catalog, at_once, rows):
    names = at_once(6, lambda number: catalog.sign_in(arrival(), secret(str(number)), None, None))

    assert names == ["grace"] * 6
    assert (rows(UserRow), rows(IdentityRow), rows(TokenRow)) == (1, 1, 6)


def test_of_two_people_of_one_name_the_second_stays_out_and_leaves_nothing(catalog, rows):
    catalog.sign_in(arrival(), secret("a"), None, None)

    with pytest.raises(PermissionDeniedError, match="weighbridge user trust grace --sign-in"):
        catalog.sign_in(arrival(Word(ISSUER, "2; rm -rf")), secret("b"), None, None)
    assert (rows(UserRow), rows(IdentityRow), rows(TokenRow)) == (1, 1, 1)


def test_the_command_in_a_refusal_is_safe_to_copy(catalog):
    catalog.create_user("grace", is_administrator=False, by=ADA)

    with pytest.raises(PermissionDeniedError, match="--subject '2; rm -rf'"):
        catalog.sign_in(arrival(Word(ISSUER, "2; rm -rf")), secret(), None, None)


def test_roles_of_groups_come_and_go_and_those_given_by_hand_stay(catalog):
    catalog.sign_in(arrival(roles={"vision": Role.WRITER, "text": Role.ADMIN}), secret("a"), None, None)
    catalog.set_member("text", "grace", Role.READER, ADA)
    catalog.sign_in(arrival(roles={"vision": Role.READER, "text": Role.ADMIN}), secret("b"), None, None)
    assert catalog.find_token("wb_b").roles == {"vision": "reader", "text": "reader"}
    assert [member.by_group for member in catalog.list_members("vision").items] == [True]

    catalog.sign_in(arrival(), secret("c"), None, None)
    assert catalog.find_token("wb_a").roles == {"text": "reader"}


def test_a_group_makes_administrators_and_ends_that_for_those_only(catalog):
    catalog.sign_in(arrival(administrator=True), secret("a"), None, None)
    assert catalog.get_user("grace").administrator
    catalog.sign_in(arrival(), secret("b"), None, None)
    assert not catalog.get_user("grace").administrator

    catalog.sign_in(arrival(administrator=True), secret("c"), None, None)
    catalog.update_user("grace", UserUpdate(administrator=True), ADA)
    catalog.sign_in(arrival(), secret("d"), None, None)
    assert catalog.get_user("grace").administrator


def test_only_what_ended_long_ago_and_was_no_token_of_its_own_is_forgotten(catalog, nightly):
    accept(catalog)
    catalog.sign_in(arrival(), secret("b"), None, None)
    create = TokenCreate(name="x", expires_in_days=None)
    catalog.create_token("nightly", create, "wb_c", "sha256:c", soon(), ADA)

    assert catalog.forget_passed_tokens(datetime.now(UTC), 10) == 0
    assert catalog.forget_passed_tokens(datetime.now(UTC) + timedelta(days=1), 1) == 1
    assert catalog.forget_passed_tokens(datetime.now(UTC) + timedelta(days=1), 10) == 1
    assert catalog.find_token("wb_c") is not None


def test_bindings_are_in_a_backup_and_what_came_by_them_ends_with_a_restore(catalog, nightly, empty_catalog):
    accept(catalog)
    file = io.StringIO()
    catalog.dump(file)

    empty_catalog.load(file.getvalue().splitlines(), ADA, keep_tokens=False)

    assert empty_catalog.list_identities("nightly") == [nightly]
    assert not empty_catalog.find_token("wb_a").is_live
    assert isinstance(empty_catalog.create_identity("nightly", _another(), ADA).id, int)


def _another():
    return IdentityCreate(issuer=ISSUER, subject="another", scopes=["read"])


@pytest.fixture
def empty_catalog(request, catalog, tmp_path):
    """Another catalog, on the other database."""
    from storage.metadata.catalog import Catalog

    is_sqlite = catalog.database.engine.dialect.name == "sqlite"
    other = Catalog.open(request.getfixturevalue("postgres_url" if is_sqlite else "sqlite_url"))
    yield other
    other.close()


def test_a_disabled_user_gets_neither_a_session_nor_a_jwt_in(catalog, nightly):
    catalog.sign_in(arrival(), secret("a"), None, None)
    for user in ("grace", "nightly"):
        catalog.update_user(user, UserUpdate(disabled=True), ADA)

    assert not accept(catalog)
    with pytest.raises(WeighbridgeError, match="shut out"):
        catalog.sign_in(arrival(), secret("b"), None, None)
