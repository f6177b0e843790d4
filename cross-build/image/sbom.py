"""The list of what is in an image: CycloneDX 1.5 as JSON, each package with version and digest. Opens no file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from .layout import identity
from .lock import Pinned
from .manifest import Board


@dataclass(frozen=True, slots=True)
class Own:
    """A part that is no Debian package of the lock: our .deb or a declared input."""

    name: str
    version: str
    sha256: str


def bill(board: Board, pins: Sequence[Pinned], own: Sequence[Own], image_sha256: str, epoch: int) -> str:
    """The JSON text; the same for the same content."""
    parts = [
        {
            "type": "library",
            "bom-ref": f"{pin.name}@{pin.version}",
            "name": pin.name,
            "version": pin.version,
            "purl": f"pkg:deb/debian/{pin.name}@{quote(pin.version, safe='')}?arch={pin.arch}&distro={board.suite}",
            "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
            "properties": [{"name": "skerry:use", "value": pin.use}],
        }
        for pin in sorted(pins)
    ]
    parts += [
        {
            "type": "application",
            "bom-ref": f"{part.name}@{part.version}",
            "name": part.name,
            "version": part.version,
            "hashes": [{"alg": "SHA-256", "content": part.sha256}],
        }
        for part in own
    ]
    stamp = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    whole = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{identity(board, 'sbom ' + image_sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": stamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "operating-system",
                "name": f"skerry-{board.short}",
                "hashes": [{"alg": "SHA-256", "content": image_sha256}],
            },
        },
        "components": parts,
    }
    return json.dumps(whole, indent=1) + "\n"
