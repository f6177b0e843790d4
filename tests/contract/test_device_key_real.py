"""The DeviceKeys contract on the openssl command."""

from __future__ import annotations

import shutil

import pytest

from contract.device_key import DeviceKeysContract
from skerry.ports import DeviceKeys
from skerry.world.device_key import KeysInFiles


@pytest.fixture
def keys() -> DeviceKeys:
    return KeysInFiles()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
class TestKeysInFiles(DeviceKeysContract):
    pass
