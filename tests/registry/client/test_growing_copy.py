"""Copies that grow while their files come: whole and verified, or not there at all."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from registry.client.cache import Cache
from registry.client.growing_copy import GrowingCopy
from registry.client.partial import Partial
from registry.client.placing import growing_copies, place
from registry.digest import blake3_digest
from registry.errors import DigestMismatchError, InvalidPathError, InvalidRequestError
from registry.schema import ArtifactInfo

DATA = os.urandom(9 << 20)
DIGEST = blake3_digest(DATA)
HALF = len(DATA) // 2
PATH = "shards/model.pt"

pytestmark = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def artifact():
    return ArtifactInfo.model_construct(path=PATH, size_bytes=len(DATA))


def fill(partial, start, end, data=DATA):
    partial.write(start, memoryview(data)[start:end])
    partial.note(start, end - start)


def everything_below(folder):
    return sorted(each.name for each in folder.rglob("*") if each.is_file())


def refuse_to_copy(*_):
    raise AssertionError("the file was copied again")


def test_a_file_that_came_is_there_without_being_copied_again(cache, folder, artifact, monkeypatch):
    monkeypatch.setattr("shutil.copyfile", refuse_to_copy)
    with growing_copies(folder, [artifact]) as copies:
        partial = Partial(cache, DIGEST, len(DATA), copy=copies[PATH])
        fill(partial, HALF, len(DATA))
        fill(partial, 0, HALF)
        kept = partial.finish()
        placed = place(kept, folder, PATH, copies[PATH])

    assert placed.read_bytes() == DATA
    assert everything_below(folder) == ["model.pt"]
    assert placed.stat().st_ino != kept.stat().st_ino
    umask = os.umask(0)
    os.umask(umask)
    assert placed.stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_was_there_before_is_replaced_at_the_end(cache, folder, artifact):
    (folder / PATH).parent.mkdir(parents=True)
    (folder / PATH).write_bytes(b"before")
    with growing_copies(folder, [artifact]) as copies:
        partial = Partial(cache, DIGEST, len(DATA), copy=copies[PATH])
        fill(partial, 0, len(DATA))
        kept = partial.finish()
        assert (folder / PATH).read_bytes() == b"before"
        place(kept, folder, PATH, copies[PATH])

    assert (folder / PATH).read_bytes() == DATA


def test_nothing_stays_of_what_turned_out_to_be_something_else(cache, folder, artifact):
    with growing_copies(folder, [artifact]) as copies:
        partial = Partial(cache, DIGEST, len(DATA), copy=copies[PATH])
        fill(partial, 0, len(DATA), bytes(len(DATA)))
        with pytest.raises(DigestMismatchError):
            partial.finish()

    assert everything_below(folder) == []


def test_a_file_that_is_begun_anew_begins_its_copy_anew(cache, folder, artifact, monkeypatch):
    monkeypatch.setattr("shutil.copyfile", refuse_to_copy)
    first = Partial(cache, DIGEST, len(DATA))
    fill(first, 0, HALF, bytes(len(DATA)))
    first.leave()
    with growing_copies(folder, [artifact]) as copies:
        second = Partial(cache, DIGEST, len(DATA), copy=copies[PATH])
        fill(second, HALF, len(DATA))
        assert second.finish() is None
        fill(second, 0, len(DATA))

        assert place(second.finish(), folder, PATH, copies[PATH]).read_bytes() == DATA


@pytest.mark.parametrize("came", [0, HALF])
def test_a_copy_of_what_another_process_fetched_is_made_in_the_end(cache, folder, artifact, came):
    file = cache.temporary_folder() / "kept"
    file.write_bytes(DATA)
    with growing_copies(folder, [artifact]) as copies:
        copies[PATH].write(memoryview(DATA)[:came])
        assert place(file, folder, PATH, copies[PATH]).read_bytes() == DATA


@pytest.mark.parametrize("call", ["open", "pwrite", "link"])
def test_where_the_system_refuses_the_file_is_copied_in_the_end(cache, folder, artifact, monkeypatch, call):
    genuine = getattr(os, call)

    def refuse(*arguments, **keywords):
        ours = call == "link" or (call == "open" and arguments[1] & os.O_TMPFILE == os.O_TMPFILE)
        if ours or (call == "pwrite" and arguments[0] == copies[PATH]._descriptor):
            raise OSError(errno.EOPNOTSUPP, "no such thing here")
        return genuine(*arguments, **keywords)

    with growing_copies(folder, [artifact]) as copies:
        monkeypatch.setattr(os, call, refuse)
        partial = Partial(cache, DIGEST, len(DATA), copy=copies[PATH])
        fill(partial, 0, len(DATA))

        assert place(partial.finish(), folder, PATH, copies[PATH]).read_bytes() == DATA
    assert everything_below(folder) == ["model.pt"]


def test_a_place_that_cannot_be_written_is_named(cache, folder, artifact):
    folder.write_bytes(b"a file")
    with growing_copies(folder, [artifact]) as copies:
        partial = Partial(cache, DIGEST, len(DATA), copy=copies[PATH])
        fill(partial, 0, len(DATA))
        kept = partial.finish()
        with pytest.raises(InvalidRequestError, match="cannot be written"):
            place(kept, folder, PATH, copies[PATH])


def test_a_link_out_of_the_folder_is_not_followed(folder, artifact, tmp_path):
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "shards").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidPathError), growing_copies(folder, [artifact]):
        pass


def test_a_process_that_is_killed_leaves_nothing_in_the_folder(folder):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from registry.client.growing_copy import GrowingCopy\n"
        "copy = GrowingCopy(Path(sys.argv[1]))\n"
        "copy.write(memoryview(bytes(1 << 20)))\n"
        "print('written', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(20)

    assert everything_below(folder) == []


def test_a_copy_that_was_let_go_takes_nothing_and_names_nothing(folder):
    copy = GrowingCopy(folder)
    copy.write(memoryview(b"before"))
    copy.close()
    copy.write(memoryview(b"after"))
    copy.close()

    assert not copy.name(folder / "model.pt", 6)
    assert everything_below(folder) == []
