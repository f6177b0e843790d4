"""Where a hub and its broker are; tests/unit/test_config.py has what else is refused."""

from __future__ import annotations

import pytest

from skerry.errors import Malformed
from skerry.wire.address import BrokerAddress, HubAddress, broker_address, hub_address


def test_a_port_that_is_not_said_is_the_schemes() -> None:
    assert broker_address("mqtt://a") == BrokerAddress("a", 1883, False)
    assert broker_address("mqtts://a/") == BrokerAddress("a", 8883, True)
    assert broker_address("mqtts://[fd00::1]:8884") == BrokerAddress("fd00::1", 8884, True)


@pytest.mark.parametrize("url", ["wss://a", "mqtts://u:secret@a", "mqtts://a:0", "mqtts://a:99999", "mqtts://a/b", ""])
def test_anything_else_is_malformed_and_not_shown(url: str) -> None:
    with pytest.raises(Malformed) as why:
        broker_address(url)
    assert "secret" not in str(why.value)


def test_a_hub_says_its_port() -> None:
    assert hub_address("https://a:1/") == HubAddress("a", 1)
    assert str(hub_address("https://[fd00::1]:8443")) == "[fd00::1]:8443"


@pytest.mark.parametrize("url", ["http://a:1", "https://a", "https://u:secret@a:1", "https://a:0", "https://a:1/b", ""])
def test_no_other_url_is_a_hubs(url: str) -> None:
    with pytest.raises(Malformed) as why:
        hub_address(url)
    assert "secret" not in str(why.value)


@pytest.mark.parametrize("host", ["a..b", "x" * 64, ".", "\udc80", "a b", "a\x7f", "\x01"])
def test_a_name_that_no_look_up_takes_is_refused_before_it_is_looked_up(host: str) -> None:
    """getaddrinfo raises a UnicodeError for the first, and http.client an InvalidURL for the last: no OSError."""
    with pytest.raises(Malformed, match="host name that cannot be"):
        hub_address(f"https://{host}:1")
    with pytest.raises(Malformed, match="host name that cannot be"):
        broker_address(f"mqtts://{host}:1")
