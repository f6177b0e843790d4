"""Kubeconfigs as clusters give them: what is understood, and that nothing which changes who asks is passed over."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry.errors import ConfigInvalid
from skerry_hub import pki
from skerry_hub.kube.config import in_cluster, load, tls_context

AUTHORITY = pki.new_authority("kubernetes", 10, pki.utc_now())
ADMIN = pki.issue(AUTHORITY, "kubernetes-admin", ("system:masters",), (), 10, pki.utc_now())


def inline(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def written(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    """As kubeadm writes admin.conf."""
    ca = {"certificate-authority-data": inline(AUTHORITY.certificate_pem), "server": "https://10.0.0.1:6443"}
    doc = {
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "admin@kubernetes",
        "clusters": [{"name": "kubernetes", "cluster": ca | cluster}],
        "contexts": [{"name": "admin@kubernetes", "context": {"cluster": "kubernetes", "user": "admin"}}],
        "users": [{"name": "admin", "user": user}],
    }  # fmt: skip
    path = folder / "admin.conf"
    path.write_text(yaml.safe_dump(doc))
    return path


def test_a_client_certificate_inline_or_in_files_beside_it(tmp_path: Path) -> None:
    certificate = {"client-certificate-data": inline(ADMIN.certificate_pem), "client-key-data": inline(ADMIN.key_pem)}
    access = load(written(tmp_path, certificate))
    assert (access.server, access.verify, access.server_name) == ("https://10.0.0.1:6443", True, "")
    assert (access.certificate, access.key) == (ADMIN.certificate_pem.decode(), ADMIN.key_pem.decode())
    assert tls_context(access) is not None
    (tmp_path / "admin.crt").write_bytes(ADMIN.certificate_pem)
    (tmp_path / "admin.key").write_bytes(ADMIN.key_pem)
    assert load(written(tmp_path, {"client-certificate": "admin.crt", "client-key": "admin.key"})) == access


def test_a_token_or_a_file_of_one_and_another_name_of_the_server(tmp_path: Path) -> None:
    access = load(written(tmp_path, {"token": "t0ken"}, **{"tls-server-name": "kubernetes"}))
    assert (access.token, access.token_file, access.server_name) == ("t0ken", None, "kubernetes")
    assert load(written(tmp_path, {"tokenFile": "token"})).token_file == tmp_path / "token"


def test_a_pods_own_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate_pem)
    access = in_cluster("10.96.0.1", "443", tmp_path)
    assert (access.server, access.token_file) == ("https://10.96.0.1:443", tmp_path / "token")
    assert in_cluster("fd00::1", "", tmp_path).server == "https://[fd00::1]:443"
    with pytest.raises(ConfigInvalid, match="no pod with a service account"):
        in_cluster("", "", tmp_path)


@pytest.mark.parametrize(
    ("user", "cluster", "field"),
    [
        ({"exec": {"command": "aws"}}, {}, "user.exec"),
        ({"auth-provider": {"name": "oidc"}}, {}, "user.auth-provider"),
        ({"username": "admin", "password": "x"}, {}, "user.username"),
        ({"token": "t", "as": "system:serviceaccount:skerry:skerry-hub"}, {}, "user.as"),
        ({"token": "t", "as-groups": ["dev"]}, {}, "user.as-groups"),
        ({"token": "t"}, {"proxy-url": "http://proxy:3128"}, "cluster.proxy-url"),
        ({"token": "t"}, {"server": "10.0.0.1:6443"}, "cluster.server"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigInvalid) as why:
        load(written(tmp_path, user, **cluster))
    assert field in str(why.value)
