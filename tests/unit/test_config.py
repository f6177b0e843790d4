"""The configuration file: every key, every bound, and every way to get it wrong. Also keeps docs/configuration.md."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.config import FILE_BYTES_MAX, KEYS, Config, KeySpec, load, parse
from skerry.errors import ConfigInvalid
from skerry.identity import IDENTITY, TOKEN

KEYS_MAX = 25
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
LEAST = {"node": "pi", "broker": "mqtt://127.0.0.1:1884"}
PATHS = ("data_dir", "run_dir", "log_dir", "manifests_dir", "containerd_socket")


def wrong(**said: Any) -> ConfigInvalid:
    with pytest.raises(ConfigInvalid) as why:
        parse({**LEAST, **said})
    assert "\n" not in str(why.value)
    return why.value


def test_two_keys_join_a_hub_and_the_rest_has_its_default() -> None:
    config = parse(dict(LEAST))
    assert (config.node, config.broker_host, config.broker_port) == ("pi", "127.0.0.1", 1884)
    for key in KEYS:
        if key.name not in LEAST:
            assert getattr(config, key.name) == (Path(key.default) if key.name in PATHS else key.default)


def test_every_key_is_read() -> None:
    other: dict[type, Any] = {str: "/other", bool: True}
    said: dict[str, Any] = {k.name: k.high if k.kind is int else other[k.kind] for k in KEYS if k.name not in LEAST}
    said["metrics_listen"] = "[::1]:9100"
    config = parse({**LEAST, **said})
    for name, value in said.items():
        assert getattr(config, name) == (Path(value) if name in PATHS else value)
    parts = {"broker_host", "broker_port", "broker_tls", "node_given"}
    assert {f.name for f in fields(Config)} - parts == {k.name for k in KEYS} - {"broker"}


def test_there_are_few_keys_and_each_says_what_it_is_for() -> None:
    assert len(KEYS) <= KEYS_MAX
    for key in KEYS:
        assert key.about
        assert (key.high > key.low) == (key.kind is int)
        assert key.kind is bool or key.unit


@pytest.mark.parametrize("key", [k for k in KEYS if k.kind is int], ids=lambda k: k.name)
def test_numbers_have_bounds(key: KeySpec) -> None:
    for value in (key.low, key.high):
        assert getattr(parse({**LEAST, key.name: value}), key.name) == value
    for value in (key.low - 1, key.high + 1, -(1 << 70)):
        assert wrong(**{key.name: value}).field == key.name


@pytest.mark.parametrize("key", KEYS, ids=lambda k: k.name)
def test_a_wrong_type_is_refused_and_named(key: KeySpec) -> None:
    for value in ("text", 7, True, 1.5, ["x"], {"x": 1}):
        if type(value) is not key.kind:
            assert wrong(**{key.name: value}).field == key.name


def test_without_any_key_it_is_a_device_of_the_hosts_name_that_has_no_hub() -> None:
    config = parse({}, "Pi-7.lan")
    assert (config.node, config.broker_host, config.broker_port) == ("pi-7.lan", "", 0)
    assert parse({"node": "mine"}, "Pi-7").node == "mine"


@pytest.mark.parametrize("host_name", ["", "pi_7", "-"])
def test_a_host_name_that_no_node_can_have_is_told(host_name: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"node: is not set, and the host's name .* is not a Kubernetes node name"):
        parse({}, host_name)


def enrolled(node: str, by: str = IDENTITY) -> Callable[[Path], tuple[str, str]]:
    return lambda folder: (node, by) if folder == Path("/other") else ("", "")


def test_a_device_bears_the_name_that_it_is_enrolled_as() -> None:
    here = {"data_dir": "/other"}
    assert parse(here, "host", enrolled("edge-1")).node == "edge-1"
    assert parse(here, "host", enrolled("edge-1", TOKEN)).node == "edge-1"
    assert parse({}, "host", enrolled("edge-1")).node == "host", "of another data_dir"
    config = parse({**here, "node": "edge-1"}, "host", enrolled("edge-1"))
    assert (config.node, config.node_given) == ("edge-1", True)
    assert not parse(here, "host", enrolled("edge-1")).node_given


def test_a_name_other_than_the_enrolled_one_is_refused_and_both_are_named() -> None:
    with pytest.raises(ConfigInvalid, match=r"node: 'pi' is set, and this device is enrolled as 'edge-1': take"):
        parse({"node": "pi", "data_dir": "/other"}, "host", enrolled("edge-1"))
    other = parse({"node": "pi", "data_dir": "/other"}, "host", enrolled("edge-1", TOKEN))
    assert other.node == "pi", "the token is what will be refused"


def test_a_bad_name_in_a_token_is_told_as_such() -> None:
    with pytest.raises(ConfigInvalid, match="is not set, and that of token 'Edge' is not a Kubernetes node name"):
        parse({"data_dir": "/other"}, "host", enrolled("Edge", TOKEN))


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    assert "keepalive_s" in str(wrong(keepalive=5))
    wrong(**{"two\nlines": 1})


@pytest.mark.parametrize("node", ["", "Pi", "-pi", "pi-", "pi_1", "a..b", "a.-b", "pi\n", "x" * 254, "+", "a/b"])
def test_a_node_is_a_dns_name(node: str) -> None:
    assert wrong(node=node).field == "node"


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://broker", "broker", 1883, False),
        ("mqtt://broker:1", "broker", 1, False),
        ("mqtt://10.0.0.1:65535/", "10.0.0.1", 65535, False),
        ("mqtt://[::1]:1884", "::1", 1884, False),
        ("mqtts://broker", "broker", 8883, True),
        ("mqtts://[::1]:1", "::1", 1, True),
    ],
)
def test_a_broker_is_a_host_and_a_port(url: str, host: str, port: int, tls: bool) -> None:
    config = parse({**LEAST, "broker": url})
    assert (config.broker_host, config.broker_port, config.broker_tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url",
    [
        "", "broker:1883", "mqtts://", "http://broker", "mqtt://", "mqtt://:1883", "mqtt://broker:0",
        "mqtt://broker:65536", "mqtt://broker:x", "mqtt://broker/topic", "mqtt://broker?x=1", "mqtt://broker#x",
        "mqtt://[::1", "mqtt://user:secret@broker",
    ],
)  # fmt: skip
def test_any_other_broker_is_refused_and_a_password_in_it_is_not_shown(url: str) -> None:
    why = wrong(broker=url)
    assert why.field == "broker"
    assert "secret" not in str(why)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("value", ["relative", "", "/with\0nul"])
def test_paths_are_absolute(name: str, value: str) -> None:
    assert wrong(**{name: value}).field == name


@given(st.dictionaries(st.sampled_from([k.name for k in KEYS]), st.text() | st.integers() | st.booleans() | st.none()))
def test_anything_gives_a_config_or_a_refusal(said: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigInvalid):
        assert parse({**LEAST, **said}).node


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "c").write_text('node = "pi" # this board\nbroker = "mqtt://127.0.0.1"\nkeepalive_s = 60\n')
    assert load(tmp_path / "c").keepalive_s == 60


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"node = \n", "line 1"),
        (b'node = "\xff"', "not UTF-8 at byte 8"),
        (b"#" * (FILE_BYTES_MAX + 1), "larger than"),
        (b"a = " + b"[" * 30_000, ""),
        (b'node = "a"\nnode = "b"', ""),
        (b'broker = ""', "broker: must be"),
    ],
    ids=["cut", "latin1", "large", "deep", "twice", "no broker"],
)
def test_a_wrong_file_is_one_line_of_trouble(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(ConfigInvalid) as why:
        load(tmp_path / "c")
    assert problem in str(why.value)
    assert "\n" not in str(why.value)


def test_no_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigInvalid, match=str(path)):
            load(path)


# --- its page ---------------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/configuration.md, from KEYS."""
    rows = [_row(key) for key in KEYS]
    return "\n".join(
        [
            "# Configuration of the device",
            "",
            "One TOML file, `/etc/skerry/config.toml`; another with `--config F` or the variable `SKERRY_CONFIG`.",
            "A key that does not exist, a value of another type and one outside its bounds are refused with one line,",
            "and skerry exits with code 2. A change takes effect when skerry is restarted; containers go on meanwhile.",
            "No key is required: `skerry enroll` gives a device its name and its broker (docs/operating.md). One that",
            "is not enrolled and has no broker runs what its journal holds and says that it has no hub.",
            "",
            "```toml",
            'broker = "mqtts://hub.example:8883"  # where it is not the one that enrolment gave',
            "keepalive_s = 60",
            "```",
            "",
            "| key | type | default | bounds | what it is for |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "This page is made from `skerry.config.KEYS`: `SKERRY_WRITE_DOCS=1 pytest tests/unit/test_config.py`.",
            "",
        ]
    )


def _row(key: KeySpec) -> str:
    kind = {str: key.unit or "text", int: f"whole number, {key.unit}", bool: "true or false"}[key.kind]
    default = f"`{str(key.default).lower() if key.kind is bool else key.default}`" if key.default != "" else ""
    bounds = f"{key.low} to {key.high}" if key.kind is int else ""
    return f"| `{key.name}` | {kind} | {default} | {bounds} | {key.about} |"


def test_the_page_tells_what_the_code_does() -> None:
    if os.environ.get("SKERRY_WRITE_DOCS"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "stale: SKERRY_WRITE_DOCS=1 pytest tests/unit/test_config.py"
