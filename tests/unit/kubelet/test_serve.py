"""Ports of nodes: one each, the same after a restart, and none taken twice."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from skerry.errors import ConfigInvalid
from skerry_hub import pki
from skerry_hub.apiserver import credentials
from skerry_hub.kubelet.app import Parts
from skerry_hub.kubelet.options import endpoint_options
from skerry_hub.kubelet.serve import KubeletEndpoints, serving_context
from skerry_hub.limits import KUBELET_PORTS
from unit.kubelet.local_streams import LocalStreams
from unit.kubelet.plain import Everybody
from unit.kubelet.site import keys_of

FIRST = 21_500


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    credentials.prepare(folder, "127.0.0.1")
    return folder


def endpoints(
    data: Path, shown: dict[str, int], last: int = FIRST + 40, log: list[str] | None = None
) -> KubeletEndpoints:
    said = log if log is not None else []
    return KubeletEndpoints(
        Parts(LocalStreams(), Everybody()), keys_of(data), listen="127.0.0.1", advertise="127.0.0.1",
        ports=(FIRST, last), shown=shown.get, log=said.append,
    )  # fmt: skip


async def test_a_node_keeps_the_port_that_its_status_names(data: Path) -> None:
    made = endpoints(data, {"a": FIRST + 7, "b": FIRST + 7, "c": 1})
    assert made.endpoint_of("a") == ("127.0.0.1", FIRST + 7)
    others = [made.endpoint_of(node) for node in ("b", "c", "a")]
    assert others[2] == ("127.0.0.1", FIRST + 7)
    assert len({at for at in others if at}) == 3
    await made.close()
    again = endpoints(data, {})
    assert again.endpoint_of("c") == others[1], "without a status it follows from the name"
    await again.close()


async def test_a_port_that_somebody_else_has_is_passed_over_and_none_is_told(data: Path) -> None:
    log: list[str] = []
    with socket.create_server(("127.0.0.1", FIRST)):
        made = endpoints(data, {"a": FIRST}, last=FIRST + 1, log=log)
        assert made.endpoint_of("a") == ("127.0.0.1", FIRST + 1)
        assert made.endpoint_of("b") is None
        assert log == [f"kubelet endpoint: no port from {FIRST} to {FIRST + 1} is free for node b"]
        made.forget("a")
        await asyncio.sleep(0)
        await made.close()


async def test_a_node_that_is_gone_is_served_no_more_and_may_come_back(data: Path) -> None:
    made = endpoints(data, {})
    at = {node: made.endpoint_of(node) for node in ("a", "b")}
    for address in at.values():
        assert address is not None
        await until_served(address)
    made.retain({"b", "c"})
    assert at["a"] is not None
    assert at["b"] is not None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*at["a"])
    await until_served(at["b"])
    assert made.snapshot()["nodes"] == 1
    assert made.endpoint_of("a") == at["a"]
    await until_served(at["a"])
    await made.close()


async def test_a_node_that_goes_before_its_listener_runs_leaves_none(data: Path) -> None:
    made = endpoints(data, {})
    first = made.endpoint_of("a")
    assert first is not None
    made.retain(set())
    second = made.endpoint_of("a")  # elsewhere: the first still has its port
    assert second is not None
    assert second != first
    await until_served(second)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*first)
    await made.close()


async def until_served(address: tuple[str, int]) -> None:
    """A connection is made, and a handshake answered."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.wait_for(asyncio.open_connection(*address, ssl=context), 30)
    writer.close()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key": None}, "--kubelet-key"),
        ({"certificate": Path("/nowhere/x")}, "--kubelet-cert"),
        ({"listen": "example.org"}, "--kubelet-listen"),
        ({"listen": "0.0.0.0"}, "--kubelet-address"),
        ({"address": "0.0.0.0"}, "--kubelet-address"),
        ({"ports": "10"}, "--kubelet-ports"),
        ({"ports": "9-8"}, "--kubelet-ports"),
        ({"ports": "1-70000"}, "--kubelet-ports"),
        ({"tls_bootstrap": True}, "--kubelet-server-tls-bootstrap"),
        ({"tls_bootstrap": True, "certificate": None}, "--kubelet-server-tls-bootstrap"),
        ({"tls_bootstrap": True, "certificate": None, "key": None, "client_ca": None}, "--kubelet-client-ca"),
    ],
)
def test_options_that_are_wrong_name_the_option(data: Path, change: dict[str, object], field: str) -> None:
    said: dict[str, object] = {
        "certificate": data / "kubelet.crt", "key": data / "kubelet.key", "client_ca": data / "ca.crt",
        "listen": "127.0.0.1", "address": "", "ports": "",
    }  # fmt: skip
    found = endpoint_options(**said)  # type: ignore[arg-type]
    assert found is not None
    assert (found.address, found.ports) == ("127.0.0.1", KUBELET_PORTS)
    with pytest.raises(ConfigInvalid) as why:
        endpoint_options(**{**said, **change})  # type: ignore[arg-type]
    assert why.value.field == field


def test_without_any_file_there_is_no_endpoint() -> None:
    assert endpoint_options(None, None, None, "127.0.0.1", "", "") is None


def test_a_hub_that_asks_for_its_certificate_has_one_of_its_own_until_then(data: Path) -> None:
    found = endpoint_options(None, None, data / "ca.crt", "0.0.0.0", "10.0.0.7", "", tls_bootstrap=True)
    assert found is not None
    assert found.tls_bootstrap
    assert [file.option for file in found.files] == ["--kubelet-client-ca"]
    assert serving_context(found.keys).verify_mode is ssl.CERT_OPTIONAL


async def test_a_certificate_that_is_none_is_refused_and_the_old_one_stays(data: Path) -> None:
    made = endpoints(data, {})
    keys = keys_of(data)
    with pytest.raises(ConfigInvalid):
        made.renew(type(keys)("not PEM", keys.key, keys.client_authorities))
    other = pki.new_authority("other", 1, pki.utc_now())
    with pytest.raises(ConfigInvalid):
        made.renew(type(keys)(keys.certificate, other.key_pem.decode(), keys.client_authorities))
    assert made.keys == keys
    at = made.endpoint_of("a")
    assert at is not None
    await until_served(at)
    made.renew(keys)
    await made.close()
