"""A real agent process that becomes one of a hub: real TLS, a real mosquitto that demands certificates, no runtime."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from contract.broker import MOSQUITTO, Broker
from contract.enrolling import NODE, Hub, problem, secrets_of, serving
from patience import WAIT_S
from skerry import identity
from skerry.identity import IDENTITY, TOKEN
from skerry.wire import token as tokens
from skerry.wire.token import Token

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


class Box:
    """A device: its folders, and its agent while that runs."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.data, self.config, self._log = folder / "data", folder / "config.toml", folder / "log"
        self.data.mkdir(mode=0o700)
        self.config.write_text(
            f'data_dir = "{self.data}"\nrun_dir = "{folder}/run"\nlog_dir = "{folder}/logs"\n'
            f'containerd_socket = "{folder}/none.sock"\njournal_bytes_max = 8388608\n{more}'
        )
        self._agent: subprocess.Popen[bytes] | None = None

    def give(self, hub: Hub, **changes: str) -> None:
        (self.data / TOKEN).write_text(tokens.encode(replace(hub.token, **changes)))  # type: ignore[arg-type]

    def start(self) -> None:
        argv = [sys.executable, "-m", "skerry.cli", "run", "--config", str(self.config)]
        with self._log.open("ab") as log:
            self._agent = subprocess.Popen(argv, stderr=log)

    def said(self) -> str:
        return self._log.read_text()

    def says(self, what: str, times: int = 1) -> None:
        end = time.monotonic() + WAIT_S
        while self.said().count(what) < times:
            assert time.monotonic() < end, (what, self.said())
            time.sleep(0.02)

    def stop(self) -> int:
        assert self._agent is not None
        self._agent.send_signal(signal.SIGTERM)
        return self._agent.wait(WAIT_S)

    def ends(self) -> int:
        assert self._agent is not None
        return self._agent.wait(WAIT_S)

    def kill(self) -> None:
        if self._agent is not None:
            self._agent.kill()
            self._agent.wait()

    def enroll(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "skerry.cli", "enroll", "--config", str(self.config), *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.kill()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def broker(tmp_path: Path, hub: Hub) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker", mutual=hub.authority)
    hub.broker = f"mqtts://localhost:{broker.port}"
    yield broker
    broker.stop()


def test_a_token_in_data_dir_is_all_that_a_new_device_needs(box: Box, hub: Hub, broker: Broker) -> None:
    box.give(hub)
    box.start()
    box.says("link: connected")
    assert "skerry 0.1.0: edge-1 is up" in box.said()
    assert "enrolment: done, as edge-1" in box.said()
    assert f"as {NODE} " in broker.log()
    assert sorted(path.name for path in box.data.iterdir()) == [IDENTITY, "journal"]
    assert stat.S_IMODE((box.data / IDENTITY).stat().st_mode) == 0o600
    assert box.stop() == 0
    box.start()
    box.says("link: connected", 2)
    assert len(hub.asked) == 1


def test_a_used_token_is_told_once_or_twice_and_the_agent_stays(box: Box, hub: Hub, broker: Broker) -> None:
    hub.answer = problem(403, "TokenUsed", "this token was used: skerry-hub token create edge-1")
    box.give(hub)
    box.start()
    box.says("link: not enrolled: ")
    box.says("this token was used: skerry-hub token create edge-1 (TokenUsed)")
    time.sleep(1)
    assert len(hub.asked) == 1
    assert not any(secret in box.said() for secret in secrets_of(hub))
    assert box.stop() == 0


def test_a_hub_that_comes_later_is_found(box: Box, tmp_path: Path, hub: Hub, broker: Broker) -> None:
    good = hub.answer
    hub.answer = problem(503, "ApiAway", "the API does not answer")
    box.give(hub)
    box.start()
    box.says("the API does not answer (ApiAway)")
    hub.answer = good
    box.says("link: connected")
    assert len({asked.public_key for asked in hub.asked}) == 1


def test_a_person_enrols_and_the_agent_runs_under_the_new_name(box: Box, hub: Hub, broker: Broker) -> None:
    line = tokens.encode(hub.token)
    checked = box.enroll("--check", "--token-file", "-", stdin=line)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"token abcdef: node edge-1, hub {hub.token.url}\n"
    assert hub.connections == 0
    done = box.enroll("--token-file", "-", stdin=line)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"enrolled as edge-1 at mqtts://localhost:{broker.port}, certificate valid until ")
    again = box.enroll(line)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    box.start()
    box.says("link: connected")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "one token is wanted"),
        (("a", "--token-file", "b"), "one token is wanted"),
        (("hello",), "this is no token of skerry"),
        (("--check", "skerry1.AAAA"), "the token was cut short or mistyped"),
    ],
)
def test_a_wrong_token_is_one_line_and_code_2(box: Box, words: tuple[str, ...], why: str) -> None:
    done = box.enroll(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert why in done.stderr


def test_a_file_that_is_not_there_is_code_1(box: Box) -> None:
    done = box.enroll("--token-file", "/nonexistent")
    assert (done.returncode, done.stderr) == (1, "skerry: /nonexistent: No such file or directory\n")


@pytest.mark.parametrize(
    ("stdin", "code", "why"),
    [(b"\xff\xfe\x00", 2, "this is no token of skerry"), (None, 1, "standard input: Bad file")],
)
def test_a_standard_input_that_is_no_text_or_closed_is_one_line(
    box: Box, stdin: bytes | None, code: int, why: str
) -> None:
    closed = "exec <&-; " if stdin is None else ""
    argv = [sys.executable, "-m", "skerry.cli", "enroll", "--config", str(box.config), "--token-file", "-"]
    shell = ["/bin/sh", "-c", f'{closed}exec "$@"', "sh", *argv]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(shell, input=stdin or b"", capture_output=True, check=False, timeout=60, env=strict)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1), done.stderr
    assert why.encode() in done.stderr


def test_who_is_tired_of_waiting_for_a_hub_sees_no_traceback(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        line = tokens.encode(Token(url, bytes(32), NODE, "abcdef", bytes(16)))
        argv = [sys.executable, "-m", "skerry.cli", "enroll", "--config", str(box.config), line]
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
        waiting = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heard)
        silent.settimeout(WAIT_S)
        with silent.accept()[0]:
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=WAIT_S) == (b"", b"")
    assert waiting.returncode == 130
    assert list(box.data.iterdir()) == []


def test_a_device_that_gets_another_name_while_it_runs_starts_again_with_it(
    box: Box, hub: Hub, broker: Broker
) -> None:
    box.config.write_text(box.config.read_text() + f'broker = "mqtts://localhost:{broker.port}"\n')
    box.start()
    box.says("link: not enrolled: ")
    box.give(hub)
    assert box.ends() == 70, box.said()
    box.says(f"enrolment: enrolled as edge-1, and running as {os.uname().nodename.lower()}; starting again")
    box.start()
    box.says("link: connected")


def test_a_name_in_the_configuration_that_is_not_the_enrolled_one_is_told(box: Box, hub: Hub) -> None:
    assert box.enroll(tokens.encode(hub.token)).returncode == 0
    box.config.write_text(box.config.read_text() + 'node = "other"\n')
    box.start()
    assert box.ends() == 2
    assert "node: 'other' is set, and this device is enrolled as 'edge-1'" in box.said()
    assert identity.read(box.data) is not None
