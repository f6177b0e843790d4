"""Where a broker is; tests/unit/test_config.py has what is refused."""

from __future__ import annotations

import pytest

from skerry.errors import Malformed
from skerry.wire.broker import BrokerAddress, broker_address


def test_a_port_that_is_not_said_is_the_schemes() -> None:
    assert broker_address("mqtt://a") == BrokerAddress("a", 1883, False)
    assert broker_address("mqtts://a/") == BrokerAddress("a", 8883, True)
    assert broker_address("mqtts://[fd00::1]:8884") == BrokerAddress("fd00::1", 8884, True)


@pytest.mark.parametrize("url", ["wss://a", "mqtts://u:secret@a", "mqtts://a:0", "mqtts://a:99999", "mqtts://a/b", ""])
def test_anything_else_is_malformed_and_not_shown(url: str) -> None:
    with pytest.raises(Malformed) as why:
        broker_address(url)
    assert "secret" not in str(why.value)
