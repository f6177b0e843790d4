"""Opening what is sealed to this device, with the keys of its identity. Keeps neither a key nor what was opened.

The identity is read anew for each opening: that happens at a pod's start, offline too, and whoever was enrolled anew a
moment ago has another key. Two keys are tried: this identity's and the one's before it.
"""

from __future__ import annotations

from pathlib import Path

from skerry import identity
from skerry.errors import IdentityBroken, NotOpened, SkerryError
from skerry.wire.cose import key_id
from skerry.wire.sealed import unseal


class SealingKeys:
    def __init__(self, folder: Path) -> None:
        """`folder` is data_dir."""
        self._folder = folder

    def unseal(self, body: bytes) -> bytes:
        """wire.sealed.Unseal. Blocks for the time to read a small file."""
        from skerry.world.sodium import Sodium

        try:
            enrolled = identity.read(self._folder)
            if enrolled is None:
                raise NotOpened("is sealed, and this device is not enrolled")
            crypto = Sodium()
        except IdentityBroken as why:
            raise NotOpened(f"is sealed: {why}") from None
        except OSError as why:
            raise NotOpened(f"is sealed: {self._folder / identity.IDENTITY}: {why.strerror}") from None
        except NotOpened:
            raise
        except SkerryError as why:  # no library
            raise NotOpened(f"is sealed: {why}") from None
        secrets = [bytes.fromhex(one) for one in (enrolled.keys.sealing, enrolled.sealing_before) if one]
        return unseal(crypto, {key_id(crypto.exchange_public(one)): one for one in secrets}, body)
