"""Bindings to other services, the JWTs of jobs and sign-ins, on both databases and from many sides at once."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from actors import ADA
from sqlalchemy import update

from registry.errors import (
    AuthenticationRequiredError,
    ConflictError,
    IdentityNotFoundError,
    PermissionDeniedError,
    WeighbridgeError,
)
from registry.identities import IdentityCreate, IdentityInfo
from registry.teams import Role, TokenCreate, TokenInfo, UserUpdate
from storage.metadata.identities import MAX_IDENTITIES
from storage.metadata.records import Actor, Arrival, AuditQuery, Secret, Word
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

    assert live(catalog, "nightly") == []
    assert not accept(catalog, name="later")


@pytest.mark.parametrize("_", range(5))
def test_an_identity_that_is_removed_leaves_no_session_however_many_sign_in_meanwhile(catalog, at_once, _):
    catalog.sign_in(arrival(), secret("first"), None, None)
    (identity,) = catalog.list_identities("grace")

    def work(number):
        if number == 3:
            return catalog.remove_identity("grace", identity.id, ADA)
        return catalog.sign_in(arrival(roles={"vision": Role.READER}), secret(str(number)), None, None)

    at_once(7, work)

    assert live(catalog, "grace") == []


@pytest.mark.parametrize("_", range(5))
def test_an_identity_that_is_removed_leaves_no_lasting_token_however_many_are_made_meanwhile(catalog, at_once, _):
    catalog.sign_in(arrival(), secret("first"), None, None)
    (identity,) = catalog.list_identities("grace")

    def work(number):
        if number == 3:
            return catalog.remove_identity("grace", identity.id, ADA)
        return lasting(catalog, str(number), made_by="wb_first")

    made = at_once(7, work)

    assert live(catalog, "grace") == []
    assert {type(each) for each in made} <= {IdentityInfo, TokenInfo, AuthenticationRequiredError}


def live(catalog, user):
    return [token.prefix for token in catalog.list_tokens(user).items if token.revoked_at is None]


def lasting(catalog, name, made_by):
    create = TokenCreate(name="command line", scopes=["read"])
    return catalog.create_lasting_token(PERSON, create, secret(name), Actor("grace", made_by))


def test_no_lasting_token_is_made_on_an_identity_that_is_gone_or_somebody_elses_by_now(catalog):
    catalog.sign_in(arrival(), secret("a"), None, None)
    (identity,) = catalog.list_identities("grace")
    catalog.remove_identity("grace", identity.id, ADA)

    with pytest.raises(AuthenticationRequiredError, match="weighbridge user trust grace --sign-in"):
        lasting(catalog, "b", None)
    catalog.create_user("other", is_administrator=False, by=ADA)
    catalog.create_identity("other", IdentityCreate(issuer=ISSUER, subject="1", use="sign_in"), ADA)
    with pytest.raises(AuthenticationRequiredError):
        lasting(catalog, "b", None)


def test_a_lasting_token_outlives_the_end_of_its_session_and_that_it_is_forgotten_but_not_that_it_is_revoked(catalog):
    for name in ("forgotten", "passed", "left"):
        catalog.sign_in(arrival(), secret(name), None, None)
        lasting(catalog, f"by-{name}", f"wb_{name}")
    catalog.sign_out("wb_left", ADA)
    passed = datetime.now(UTC) - timedelta(days=40)
    expire(catalog, "wb_passed", datetime.now(UTC) - timedelta(hours=1))
    expire(catalog, "wb_forgotten", passed)
    assert catalog.forget_passed_tokens(passed + timedelta(days=1), 10) == 1

    assert live(catalog, "grace") == ["wb_by-left", "wb_by-passed", "wb_passed", "wb_by-forgotten"]
    assert all(catalog.find_token(f"wb_by-{name}").is_live for name in ("forgotten", "passed", "left"))
    for name in ("passed", "left"):
        catalog.revoke_token(f"wb_{name}", ADA)
    assert live(catalog, "grace") == ["wb_by-forgotten"]


def expire(catalog, prefix, moment):
    row = update(TokenRow).where(TokenRow.prefix == prefix).values(expires_at=moment)
    catalog.database.write(lambda session: session.execute(row))


def test_what_has_expired_is_not_ended_once_more(catalog, nightly):
    for name in ("passed", "live"):
        accept(catalog, name=name)
        for end in ("passed", "live"):
            create = TokenCreate(name="x", expires_in_days=None)
            catalog.create_token("nightly", create, secret(f"{name}-{end}"), Actor("nightly", f"wb_{name}"))
    for prefix in ("wb_passed", "wb_passed-passed", "wb_passed-live", "wb_live-passed"):
        expire(catalog, prefix, datetime.now(UTC) - timedelta(days=7))

    catalog.remove_identity("nightly", nightly.id, ADA)

    ended = catalog.list_audit(AuditQuery(action="token.revoke")).items
    assert {entry.detail["prefix"] for entry in ended} == {"wb_live", "wb_live-live"}
    assert live(catalog, "nightly") == ["wb_live-passed", "wb_passed-live", "wb_passed-passed", "wb_passed"]


def test_what_a_session_made_before_it_was_signed_out_ends_with_the_identity(catalog):
    catalog.sign_in(arrival(), secret("a"), None, None)
    (identity,) = catalog.list_identities("grace")
    catalog.create_token("grace", TokenCreate(name="x"), secret("b"), Actor("grace", "wb_a"))
    catalog.sign_out("wb_a", ADA)
    assert live(catalog, "grace") == ["wb_b"]

    catalog.remove_identity("grace", identity.id, ADA)
    assert live(catalog, "grace") == []


def test_however_many_tokens_came_by_an_identity_all_end_with_it(catalog, nightly, monkeypatch):
    monkeypatch.setattr("storage.metadata.tokens._PREFIXES_AT_ONCE", 2)
    for number in range(5):
        accept(catalog, name=str(number))
        by = Actor("nightly", f"wb_{number}")
        catalog.create_token("nightly", TokenCreate(name="x"), secret(f"{number}-made"), by)

    catalog.remove_identity("nightly", nightly.id, ADA)

    assert live(catalog, "nightly") == []


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
    catalog.create_token("nightly", create, secret("c"), ADA)

    assert catalog.forget_passed_tokens(datetime.now(UTC), 10) == 0
    assert catalog.forget_passed_tokens(datetime.now(UTC) + timedelta(days=1), 1) == 1
    assert catalog.forget_passed_tokens(datetime.now(UTC) + timedelta(days=1), 10) == 1
    assert catalog.find_token("wb_c") is not None


@pytest.mark.parametrize("kept", [True, False])
def test_bindings_of_jobs_are_in_a_backup_and_end_with_the_tokens_when_it_is_restored(
    catalog, nightly, empty_catalog, kept
):
    accept(catalog)
    file = io.StringIO()
    catalog.dump(file)

    empty_catalog.load(file.getvalue().splitlines(), ADA, keep_tokens=kept)

    assert empty_catalog.list_identities("nightly") == ([nightly] if kept else [])
    assert empty_catalog.find_token("wb_a").is_live == kept
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
