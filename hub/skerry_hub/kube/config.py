"""A kubeconfig, or a pod's own token files, as one frozen value. Decides which forms of credentials are understood.

Understood: client certificate and key, token, token file, each as file or inline; an own CA; tls-server-name. What else
would change who asks, or the way there, is refused by name: plugins, passwords, impersonation, a proxy. Source: the
kubeconfig (v1) reference.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from skerry.errors import ConfigInvalid
from skerry.limits import MIB

FILE_BYTES_MAX = 4 * MIB
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """Where an API is and how to prove who we are. PEM texts are inline."""

    server: str  # https://HOST:PORT[/PATH] or http:// for a proxy on this machine
    ca: str = ""  # empty: the system's authorities
    certificate: str = ""
    key: str = ""
    token: str = ""
    token_file: Path | None = None  # read anew when it changes
    server_name: str = ""
    verify: bool = True


def load(path: Path) -> Access:
    """The current context of a kubeconfig file. Raises ConfigInvalid with the path of what is wrong."""
    doc = _read(path)
    context = _named(doc, "contexts", doc.get("current-context"), "context", path)
    cluster = _named(doc, "clusters", context.get("cluster"), "cluster", path)
    user = _named(doc, "users", context.get("user"), "user", path) if context.get("user") else {}
    for field in ("exec", "auth-provider", "username", "as", "as-uid", "as-groups", "as-user-extra"):
        if user.get(field):
            raise ConfigInvalid(f"{path}: user.{field}", "is not supported; use a client certificate or a token")
    if cluster.get("proxy-url"):
        raise ConfigInvalid(f"{path}: cluster.proxy-url", "is not supported; name a server that is reached without")
    folder = path.parent
    token_file = user.get("tokenFile")
    return Access(
        server=_server(cluster.get("server"), path),
        ca=_pem(cluster, "certificate-authority", folder),
        certificate=_pem(user, "client-certificate", folder),
        key=_pem(user, "client-key", folder),
        token=str(user.get("token") or ""),
        token_file=folder / str(token_file) if token_file else None,
        server_name=str(cluster.get("tls-server-name") or ""),
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )


def in_cluster(host: str, port: str, folder: Path = IN_CLUSTER) -> Access:
    """Inside a pod: `host` and `port` are KUBERNETES_SERVICE_HOST and _PORT. Raises ConfigInvalid."""
    if not host or not (folder / "token").exists():
        raise ConfigInvalid("--kubeconfig", "is needed: this is no pod with a service account")
    host = f"[{host}]" if ":" in host else host
    return Access(f"https://{host}:{port or '443'}", ca=_text(folder / "ca.crt"), token_file=folder / "token")


def tls_context(access: Access) -> ssl.SSLContext | None:
    """None for a plain http:// server. Raises ConfigInvalid."""
    if not access.server.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cadata=access.ca or None)
        if not access.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if access.certificate:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # 0600, gone again at once
                file.write(f"{access.certificate.rstrip()}\n{access.key}")
                file.flush()
                context.load_cert_chain(file.name)
    except (ssl.SSLError, OSError, ValueError) as why:
        raise ConfigInvalid("kubeconfig", f"certificates cannot be used: {why}") from None
    return context


# --- private ----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        doc = yaml.safe_load(_text(path))
    except yaml.YAMLError as why:
        raise ConfigInvalid(str(path), f"is not YAML: {' '.join(str(why).split())}") from None
    if not isinstance(doc, dict):
        raise ConfigInvalid(str(path), "is no kubeconfig")
    return doc


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as why:
        raise ConfigInvalid(str(path), why.strerror or "cannot be read") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigInvalid(str(path), f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as why:
        raise ConfigInvalid(str(path), f"is not UTF-8 at byte {why.start}") from None


def _named(doc: dict[str, Any], section: str, name: Any, inner: str, path: Path) -> dict[str, Any]:
    entries = doc.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(inner), dict):
            found: dict[str, Any] = entry[inner]
            return found
    raise ConfigInvalid(f"{path}: {section}", f"has no {name!r}" if name else "no current-context is chosen")


def _server(value: Any, path: Path) -> str:
    try:
        parts = urlsplit(str(value or ""))
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise ConfigInvalid(f"{path}: cluster.server", f"{value!r} is not https://HOST:PORT")
    return str(value).rstrip("/")


def _pem(section: dict[str, Any], name: str, folder: Path) -> str:
    inline, file = section.get(f"{name}-data"), section.get(name)
    if inline:
        try:
            return base64.b64decode(str(inline), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ConfigInvalid(f"kubeconfig: {name}-data", "is not base64 of a PEM text") from None
    return _text(folder / str(file)) if file else ""
