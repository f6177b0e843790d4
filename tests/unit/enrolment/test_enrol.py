"""A token becomes two certificates, once, whatever is lost on the way and whoever else is at it."""

from __future__ import annotations

from cryptography import x509

from skerry_hub.enrolment.signing import REQUESTS
from skerry_hub.ports import EVENTS, NODES, SECRETS
from unit.enrolment.site import BROKER, Site, new_key


async def test_a_token_becomes_a_device(hub: Site) -> None:
    key, token = new_key(), await hub.token("pi")
    reply = await hub.enroll(token, key)
    assert reply.status == 200, reply
    issued = reply.issued
    assert (issued.node, issued.broker, issued.url) == ("pi", BROKER, hub.parts[0].url)
    names = [
        x509.load_pem_x509_certificate(text.encode()).subject.rfc4514_string()
        for text in (issued.certificate, issued.streams)
    ]
    assert names == ["CN=pi", "CN=pi.streams"]
    secrets = await hub.objects(SECRETS, "skerry")
    assert set(secrets) == {f"skerry-token-{token.ident}", "skerry-device-pi"}
    (name,) = await hub.objects(REQUESTS)
    assert name == f"skerry-pi-{token.ident}"
    assert "pi" in await hub.objects(NODES)
    (event,) = [e for e in (await hub.objects(EVENTS, "default")).values() if e["reason"] == "Enrolled"]
    assert event["involvedObject"]["name"] == "pi"
