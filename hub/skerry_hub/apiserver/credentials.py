"""The data folder's keys: authority, serving certificate, the administrator's certificate, token and kubeconfig; for
the way to the nodes, the server's own client certificate and a serving certificate for the kubelet endpoint.

Decides which files there are and when one is made anew. Refuses to know what is served.
"""

from __future__ import annotations

import base64
import secrets
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import yaml

from skerry_hub import pki, pki_files

from .errors import DataError

TOKEN_BYTES = 32


@dataclass(frozen=True)
class Credentials:
    """Everything that clients and the listener need, loaded."""

    authority: pki.Pair
    server: pki.Pair
    admin: pki.Pair
    token: str


def prepare(data: Path, host: str) -> Credentials:
    """Loads or makes the keys in `data`; a certificate near its end or without `host` is made anew. Raises PkiError."""
    authority = pki_files.authority(data, "ca", "skerry-hub api authority")
    names = tuple(dict.fromkeys([host, "127.0.0.1", "::1", "localhost", "kubernetes", socket.gethostname()]))
    names = tuple(name for name in names if name and name not in ("0.0.0.0", "::") and name.isascii())  # noqa: S104
    server = pki_files.pair(data, "server", authority, "kubernetes", (), names)
    admin = pki_files.pair(data, "admin", authority, "admin", ("system:masters",), ())
    pki_files.pair(data, "node-client", authority, "kube-apiserver-kubelet-client", ("system:masters",), ())
    pki_files.pair(data, "kubelet", authority, "system:node:skerry-hub", ("system:nodes",), names)
    return Credentials(authority, server, admin, _token(data / "admin.token"))


def _token(path: Path) -> str:
    try:
        if path.exists():
            token = path.read_text().strip()
            if token:
                return token
    except (OSError, ValueError) as why:
        raise DataError(f"{path}: cannot be read: {why}") from None
    token = secrets.token_urlsafe(TOKEN_BYTES)
    pki.write_private(path, token.encode() + b"\n")
    return token


def tls_context(data: Path) -> ssl.SSLContext:
    """TLS of the listener: our certificate, client certificates of our authority asked for but not demanded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(data / "server.crt", data / "server.key")
        context.load_verify_locations(data / "ca.crt")
    except OSError as why:  # ssl.SSLError is one
        raise pki.PkiError(f"{data}: the serving certificate cannot be used: {why.strerror or why}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def node_context(data: Path) -> ssl.SSLContext:
    """TLS towards the nodes' endpoints: our client certificate; theirs must be of our authority and name the host."""
    try:
        context = ssl.create_default_context(cafile=str(data / "ca.crt"))
        context.load_cert_chain(data / "node-client.crt", data / "node-client.key")
    except OSError as why:  # ssl.SSLError is one
        raise pki.PkiError(f"{data}: the node client certificate cannot be used: {why.strerror or why}") from None
    return context


def kubeconfig(found: Credentials, url: str) -> bytes:
    """A kubeconfig for the administrator, everything inline."""

    def inline(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    cluster = {"server": url, "certificate-authority-data": inline(found.authority.certificate_pem)}
    user = {
        "client-certificate-data": inline(found.admin.certificate_pem),
        "client-key-data": inline(found.admin.key_pem),
    }
    doc = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "skerry", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "skerry", "context": {"cluster": "skerry", "user": "admin"}}],
        "current-context": "skerry",
    }
    return yaml.safe_dump(doc, sort_keys=False).encode()
