"""The list of what is in an image: CycloneDX 1.5 as JSON, each package with version and digest. Opens no file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from .layout import identity
from .manifest import Board


def bill(
    board: Board, debian: Sequence[Mapping[str, str]], own: Sequence[Mapping[str, str]], image_sha256: str, epoch: int
) -> str:
    """The JSON text; the same for the same content. Parts are as debs.described() has them; `own` are not Debian's."""
    parts = [
        {
            "type": "library",
            "bom-ref": f"{part['Package']}@{part['Version']}",
            "name": part["Package"],
            "version": part["Version"],
            "purl": f"pkg:deb/debian/{part['Package']}@{quote(part['Version'], safe='')}"
            f"?arch={part['Architecture']}&distro={board.suite}",
            "hashes": [{"alg": "SHA-256", "content": part["SHA256"]}],
        }
        for part in sorted(debian, key=lambda part: part["Package"])
    ]
    parts += [
        {
            "type": "application",
            "bom-ref": f"{part['Package']}@{part['Version']}",
            "name": part["Package"],
            "version": part["Version"],
            "hashes": [{"alg": "SHA-256", "content": part["SHA256"]}],
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
