"""Keys and outputs are the same in other folders, for other users and umasks, and are shared over HTTP."""

from __future__ import annotations

import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builds.build_places import NOBODY, NewPlace, Place, blobs, edit, needs_sandbox, served

pytestmark = needs_sandbox

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")


def outputs(here: Place, *words: str) -> dict[str, bytes]:
    done = here.build("consumer", "consumer:list", "agent:bundle", "--out", str(here.root / "out"), *words)
    assert done.code == 0, done.said
    out = here.root / "out"
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_two_places_with_two_umasks_give_the_same_keys_and_bytes(at: NewPlace) -> None:
    one, two = at("a"), at("another/and/longer", umask=0o077, name="other-name")
    edit(two.root / "consumer/build.toml", '"../toy/', '"../other-name/')
    for path in two.root.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    assert outputs(one) == outputs(two)
    assert blobs(one.cache, "ac") == blobs(two.cache, "ac")
    assert blobs(one.cache, "cas") == blobs(two.cache, "cas")


@as_root
def test_another_user_gives_the_same_keys_and_bytes(at: NewPlace) -> None:
    one, two = at("a"), at("user/of/another/name", user=NOBODY, umask=0o077)
    assert outputs(one) == outputs(two)
    assert blobs(one.cache, "ac") == blobs(two.cache, "ac")


@as_root
def test_a_second_root_with_another_user_and_path_builds_nothing_over_http(at: NewPlace) -> None:
    one = at("a")
    expected = outputs(one)
    two = at("somewhere/else", user=NOBODY, umask=0o027)
    with served(one.cache) as url:
        done = two.build("consumer", "consumer:list", "agent:bundle", "--remote", url)
        assert done.code == 0, done.said
        assert done.built == set()
        assert outputs(two, "--remote", url) == expected
    assert outputs(two) == expected  # and by now without the server


def test_a_poisoned_remote_is_refused_named_and_not_used(at: NewPlace) -> None:
    one, two = at("a"), at("b")
    expected = outputs(one)
    for file in (one.cache / "cas").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    with served(one.cache) as url:
        done = two.build("consumer", "consumer:list", "agent:bundle", "--remote", url, "--out", "out")
    assert done.code == 0, done.said
    assert f"refused: {url}/cas/" in done.said
    assert (two.root / "out/consumer/list.txt").read_bytes() == expected["consumer/list.txt"]


def test_what_is_pushed_is_found_by_the_next(at: NewPlace, tmp_path: Path) -> None:
    one, two = at("a"), at("b")
    outputs(one, "--remote", str(tmp_path / "shared"), "--push")
    with served(tmp_path / "shared") as url:
        assert two.build("consumer", "consumer:list", "--remote", url).built == set()


def test_a_remote_that_is_away_is_said_once_and_the_build_goes_on(at: NewPlace) -> None:
    done = at("a").build("consumer", "consumer:list", "--remote", "http://127.0.0.1:9")
    assert done.code == 0
    assert done.said.count("going on without it") == 1


def test_a_remote_that_breaks_off_stops_no_build(at: NewPlace) -> None:
    class Short(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = at("a").build("toy/native", "native:header", "--remote", url, "--out", "out")
        server.shutdown()
    assert done.code == 0, done.said
    assert done.built == {"native:header"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "native:header", "--root", "toy/native", "--push"), "can be pushed to a folder. Write --remote DIR"),
        (("build", "native:header", "--root", "toy/native", "--seal", "no-such-file"), "no-such-file"),
        (("build", "native:header", "--root", "no-such-folder"), "no-such-folder/build.toml: cannot be read"),
        (("lock", "native:header", "--root", "toy/native"), "native:header: is no fetch unit"),
        (("explain", "native:nothing", "--root", "toy/native"), "There are native:header, native:hot@fast"),
    ],
)
def test_a_wrong_word_is_one_line_and_no_traceback(at: NewPlace, words: tuple[str, ...], said: str) -> None:
    ended = at("a").run(*words)
    assert ended.code in (1, 2)
    assert said in ended.said
    assert "Traceback" not in ended.said


def test_reproduce_builds_twice_and_compares(at: NewPlace) -> None:
    here = at("a")
    same = here.run("reproduce", "native:header", "--root", "consumer")
    assert same.code == 0, same.said
    assert "1 of 1 files equal: two paths, umask 022 and 077" in same.said


def test_reproduce_shows_what_differs(at: NewPlace) -> None:
    """A planted difference: bytes by chance in the table."""
    here = at("a")
    edit(here.root / "toy/native/table.py", "n * n", "hash(object()) % 1000")
    differs = here.run("reproduce", "native:header", "--root", "consumer")
    assert differs.code == 1
    assert "differs: native/out/table.h" in differs.said
    if shutil.which("diffoscope"):
        assert "static const int table" in differs.said
