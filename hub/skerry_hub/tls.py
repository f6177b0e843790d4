"""TLS 1.3 contexts from keys in memory, for the enrolment server and for the connections to the broker.

Decides what both ends must show. Refuses to know where the keys come from.
"""

from __future__ import annotations

import os
import ssl

from skerry.errors import ConfigInvalid


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Of a server that asks its clients for no certificate. PEM. Raises ConfigInvalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody comes twice
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate, key, "certificate of the server")
    return context


def client_context(authorities: bytes, certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Of a client with a certificate; the server's must be of one of `authorities` and have its name. PEM. Raises
    ConfigInvalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    except (ssl.SSLError, ValueError) as why:
        raise ConfigInvalid("authorities", f"cannot be used: {why}") from None
    _load(context, certificate, key, "certificate of the client")
    return context


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes, what: str) -> None:
    try:
        with os.fdopen(os.memfd_create("tls", os.MFD_CLOEXEC), "wb") as file:  # the key lies in no folder
            file.write(certificate.rstrip() + b"\n" + key)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    except (ssl.SSLError, OSError, ValueError) as why:
        raise ConfigInvalid(what, f"cannot be used: {why}") from None
