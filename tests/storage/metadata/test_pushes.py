from datetime import UTC, datetime, timedelta

import pytest

from registry.errors import InvalidRequestError, PublishInProgressError, UnavailableError
from storage.metadata.records import Replay
from storage.metadata.tables import IdempotencyKeyRow

KEY = ("ada", "vision", "resnet50", "key")


def after(**duration):
    return datetime.now(UTC) + timedelta(**duration)


def test_a_finished_push_is_replayed_for_seven_days(catalog, prepare):
    assert catalog.begin_push(*KEY, after(minutes=1)) is None
    catalog.publish(prepare(idempotency=("ada", "key"), fingerprint="f"))
    assert catalog.begin_push(*KEY, after(minutes=1)) == Replay(1, "f")
    catalog.abandon_push(*KEY)
    assert catalog.begin_push(*KEY, after(minutes=1)) == Replay(1, "f")
    assert catalog.forget_expired_keys(after(days=6, hours=23), 10) == 0
    assert catalog.forget_expired_keys(after(days=7, hours=1), 10) == 1
    assert catalog.begin_push(*KEY, after(minutes=1)) is None


def test_a_key_whose_seven_days_are_over_is_free_before_it_is_forgotten(catalog, prepare):
    catalog.publish(prepare(idempotency=("ada", "key")))
    age = timedelta(days=8)
    catalog.database.write(lambda session: expire(session, age))
    assert catalog.begin_push(*KEY, after(minutes=1)) is None
    with pytest.raises(PublishInProgressError):
        catalog.begin_push(*KEY, after(minutes=1))


def expire(session, age):
    session.query(IdempotencyKeyRow).one().expires_at -= age


def test_a_running_push_is_answered_with_when_to_come_again(catalog):
    catalog.begin_push(*KEY, after(seconds=50))
    with pytest.raises(PublishInProgressError) as caught:
        catalog.begin_push(*KEY, after(seconds=50))
    assert 40 <= caught.value.extra["retry_after"] <= 50


def test_keys_belong_to_a_caller_and_a_model(catalog):
    for caller, model in [("ada", "a"), ("ada", "b"), ("bob", "a")]:
        assert catalog.begin_push(caller, "vision", model, "key", after(minutes=1)) is None


def test_an_abandoned_key_is_free_again(catalog):
    catalog.begin_push(*KEY, after(minutes=1))
    catalog.abandon_push(*KEY)
    assert catalog.begin_push(*KEY, after(minutes=1)) is None


def test_a_push_that_died_is_taken_over_when_its_lease_ends(catalog):
    catalog.begin_push(*KEY, after(seconds=-1))
    assert catalog.begin_push(*KEY, after(minutes=1)) is None
    with pytest.raises(PublishInProgressError):
        catalog.begin_push(*KEY, after(minutes=1))


def test_an_extended_push_keeps_its_key(catalog):
    catalog.begin_push(*KEY, after(seconds=-1))
    catalog.extend_push(*KEY, after(minutes=1))
    with pytest.raises(PublishInProgressError):
        catalog.begin_push(*KEY, after(minutes=1))


def test_of_many_pushes_with_one_key_exactly_one_goes_on(catalog, at_once):
    results = at_once(16, lambda _: catalog.begin_push(*KEY, after(minutes=1)))
    assert results.count(None) == 1
    assert {type(result) for result in results if result is not None} == {PublishInProgressError}


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_keys_have_1_to_200_characters(catalog, key):
    with pytest.raises(InvalidRequestError, match="200"):
        catalog.begin_push("ada", "vision", "resnet50", key, after(minutes=1))


def test_an_extended_write_is_not_doomed(catalog):
    catalog.begin_write("aa/bb/one", "vision", "ada", after(seconds=-1))
    catalog.begin_write("aa/bb/two", "vision", "ada", after(seconds=-1))
    catalog.extend_write(["aa/bb/one"], after(minutes=1))
    assert catalog.doom_expired_writes(datetime.now(UTC), 10) == 1
    assert catalog.list_doomed(datetime.now(UTC), 10) == ["aa/bb/two"]
    with pytest.raises(UnavailableError):
        catalog.extend_write(["aa/bb/one", "aa/bb/two"], after(minutes=1))


def test_a_cancelled_write_is_doomed_at_once_and_only_once(catalog):
    catalog.begin_write("aa/bb/one", "vision", "ada", after(minutes=1))
    catalog.cancel_write("aa/bb/one")
    catalog.cancel_write("aa/bb/one")
    assert catalog.list_doomed(datetime.now(UTC), 10) == ["aa/bb/one"]
