"""`skerry-hub` on an API that gives tokens of service accounts, as a cluster's does and the embedded one does not:
`python -m fleet.issuer run …`. Only the answer to a TokenRequest is made here, at the seam `ports.Cluster`; a token
lives 20 s, so that a test sees the next one.
"""

from __future__ import annotations

import itertools
import sys

from skerry_hub import cli
from skerry_hub.kube.client import KubeClient
from skerry_hub.ports import Obj, Resource

LIFE_S = 20
_asked = itertools.count(1)
_create = KubeClient.create


async def create(
    self: KubeClient, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
) -> Obj:
    if subresource != "token":
        return await _create(self, resource, namespace, obj, name=name, subresource=subresource)
    spec = {**obj["spec"], "expirationSeconds": LIFE_S}
    who = f"{namespace}/{name}/{spec['boundObjectRef']['name']}/{','.join(spec['audiences'])}"
    return {**obj, "spec": spec, "status": {"token": f"token-{next(_asked)}-of-{who}"}}


if __name__ == "__main__":
    KubeClient.create = create  # type: ignore[method-assign]
    sys.exit(cli.main())
