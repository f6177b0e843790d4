"""What a person types at the box: which pod is meant, durations, exit codes, and a runtime that is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry import cli
from skerry.by_hand.streams import agent_runs, exit_code, find, seconds_in
from skerry.config import load
from skerry.containerd.outcome import exited, not_started
from skerry.errors import ConfigInvalid, SkerryError, StreamBroken
from skerry.inspect_journal import known
from skerry.world.store import open_store
from unit.by_hand.test_rows import config

__all__ = ["config"]  # a fixture


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("100ms", 0.1), ("1m30s", 90)]
)
def test_a_duration_is_written_as_for_kubectl(text: str, seconds: float) -> None:
    assert seconds_in(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m x", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="--since"):
        seconds_in(text)


@pytest.mark.parametrize("code", [0, 1, 7, 137])
def test_an_exit_code_is_passed_on(code: int) -> None:
    assert exit_code(exited(code)) == code


def test_a_command_that_did_not_start_says_why() -> None:
    with pytest.raises(StreamBroken, match="no such file"):
        exit_code(not_started("no such file"))


@pytest.mark.parametrize("word", ["web", "default/web", "u1"])
def test_a_pod_is_found_by_name_full_name_or_uid(config: Path, word: str) -> None:
    assert find(known(load(config)), "pi", word).uid == "u1"


@pytest.mark.parametrize("word", ["own", "default/own", "own-pi", "default/own-pi"])
def test_a_pod_of_a_manifest_is_found_with_and_without_the_nodes_name(config: Path, word: str) -> None:
    journal = known(load(config))
    assert journal.file_of(find(journal, "pi", word).uid) == "own.yaml"


def test_a_pod_that_is_not_here_is_told(config: Path) -> None:
    with pytest.raises(SkerryError, match="there is no pod 'nobody' on this device"):
        find(known(load(config)), "pi", "nobody")


def test_a_pod_that_the_device_refuses_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "bad", "--config", str(config)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("skerry: pod default/bad is refused by this device: spec.hostPID")
    assert err.count("\n") == 1


def test_a_runtime_that_is_away_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + f'containerd_socket = "{config.parent}/nobody.sock"\n')
    for words in (["logs", "web", "-c", "a"], ["exec", "web", "-c", "a", "--", "true"], ["restart", "web"]):
        assert cli.main([words[0], "--config", str(config), *words[1:]]) == 1
        err = capsys.readouterr().err
        assert err.startswith("skerry: ")
        assert "nobody.sock" in err
        assert err.count("\n") == 1


def test_whether_the_agent_runs_is_told_by_its_lock(config: Path) -> None:
    assert not agent_runs(load(config))
    store = open_store(config.parent / "journal", map_bytes=16 << 20, ballast_bytes=4096).store
    assert agent_runs(load(config))
    store.close()
    assert not agent_runs(load(config))


WRONG = (["logs"], ["exec", "p"], ["logs", "p", "--tail", "-2"], ["get", "nodes"], ["restart"])


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_end_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
