"""Lanes: every piece in its order to everybody, buffers that take turns, and errors that come out."""

import threading
import time

import pytest

from registry.lanes import MOST_BEHIND, Lanes


def put_all(takers, pieces):
    with Lanes(takers) as lanes:
        for piece in pieces:
            lanes.put(piece)


def test_every_taker_gets_every_piece_in_its_order_also_when_one_is_slow_and_buffers_take_turns():
    taken = [[], [], []]

    def take_slowly(view):
        time.sleep(0.001)
        taken[2].append(bytes(view))

    buffers = [bytearray(4) for _ in range(MOST_BEHIND + 1)]
    pieces = [number.to_bytes(4, "big") for number in range(200)]
    takers = [lambda view: taken[0].append(bytes(view)), lambda view: taken[1].append(bytes(view)), take_slowly]
    with Lanes(takers) as lanes:
        for number, piece in enumerate(pieces):
            buffer = buffers[number % len(buffers)]
            buffer[:] = piece
            lanes.put(buffer)

    assert taken == [pieces] * 3


def test_a_taker_does_not_wait_for_another_at_each_piece():
    ahead = threading.Event()
    counted = []

    def count(view):
        counted.append(view[0])
        if len(counted) == MOST_BEHIND:
            ahead.set()

    def wait(_):
        assert ahead.wait(10)

    with Lanes([wait, count]) as lanes:
        for number in range(10):
            lanes.put(bytes([number]))

    assert counted == list(range(10))


@pytest.mark.parametrize("count", [1, 3, 50])
def test_what_a_taker_raises_comes_out(count):
    def fail(view):
        raise ZeroDivisionError(bytes(view))

    with pytest.raises(ZeroDivisionError, match="0"):
        put_all([lambda _: None, fail], [b"%d" % number for number in range(count)])


def test_threads_end_with_the_block_also_when_it_fails():
    def broken_stream():
        yield b"1"
        yield b"2"
        raise KeyError

    before = threading.active_count()
    with pytest.raises(KeyError):
        put_all([lambda _: time.sleep(0.01)] * 3, broken_stream())

    assert threading.active_count() == before
