"""With which credentials an image is pulled: those in the pod's pull secrets that are for its registry.

Decides what matches, in which order it is tried, and what of a runtime's words about a failed pull may be shown.
Refuses to know where Secrets come from. Nothing of what they hold gets into an error. Only what matches is decoded.

Source: Kubernetes documentation, "Images", interpretation of config.json; API reference, the types of Secret. Where
these are silent: what the kubelet does (one keyring of all pull secrets, sorted backwards by the registries' names).
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from urllib.parse import quote, quote_plus

from skerry.errors import Refused
from skerry.limits import PULL_KEYS_MAX, REGISTRIES_MAX, REGISTRY_CHARS_MAX
from skerry.model.manifest import ConfigData
from skerry.model.reader import Field
from skerry.ports import AuthConfig

CONFIG_JSON, CONFIG = "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"
KEYS = {CONFIG_JSON: ".dockerconfigjson", CONFIG: ".dockercfg"}
DEFAULT_DOMAIN, DEFAULT_REGISTRY = "docker.io", "index.docker.io"
PIECE_CHARS = 8  # so much of a password in a text gives it away
WITHHELD = "what it says is not shown, because a password of the pull secrets is in it"

_QUERY, _USER = re.compile(r"\?[^\s\"'\\]+"), re.compile(r"//[^/\s\"'@]*@")


def matching(image: str, secrets: Iterable[ConfigData]) -> tuple[AuthConfig, ...]:
    """The credentials to try, the most specific first; none: it is pulled without. Raises Refused, whose path names the
    Secret and the field in it."""
    repository = _repository(image)
    entries = [entry for secret in secrets for entry in _registries(secret)]
    chosen = [entry for entry in entries if _covers(entry[0], repository)]
    if not chosen and repository.startswith(DEFAULT_DOMAIN + "/"):
        chosen = [entry for entry in entries if entry[0] == DEFAULT_REGISTRY]
    chosen.sort(key=lambda entry: entry[0], reverse=True)
    auths = tuple(dict.fromkeys(_auth(field) for _, field in chosen))
    if len(auths) > PULL_KEYS_MAX:
        raise Refused("spec.imagePullSecrets", f"{len(auths)} credentials are for {image}, at most {PULL_KEYS_MAX} may")
    return auths


def shown(text: str, auths: Iterable[AuthConfig]) -> str:
    """What a runtime says of a failed pull as it may be shown, for it may repeat what a registry says: without the
    users and queries of addresses, which hold names and signatures; and nothing at all if a piece of a password is in
    it."""
    for spelled in {spelled for auth in auths for spelled in _spellings(auth)}:
        if any(spelled[at : at + PIECE_CHARS] in text for at in range(max(1, len(spelled) - PIECE_CHARS + 1))):
            return WITHHELD
    return _USER.sub("//", _QUERY.sub("?...", text))


def names(lacking: Sequence[str]) -> str:
    """Of pull secrets that cannot be had, in the kubelet's words."""
    return (
        f"Unable to retrieve some image pull secrets ({', '.join(lacking)}); "
        "attempting to pull the image may not succeed."
    )


# --- private ----------------------------------------------------------------------------------------------------------


def _registries(secret: ConfigData) -> Iterator[tuple[str, Field]]:
    """The registries that a Secret is for, by their names without a scheme, and what stands there for each. In a path
    they have numbers: a name could hold a user and password of its own."""
    whose = f"Secret {secret.namespace}/{secret.name}"
    key = KEYS.get(secret.type)
    if key is None:
        raise Refused(f"{whose}: type", f"is neither {CONFIG_JSON} nor {CONFIG}, so it holds no registry's credentials")
    data = dict(secret.data).get(key)
    if data is None:
        raise Refused(f"{whose}: data[{key}]", "is required")
    root = Field(_parsed(data, f"{whose}: data[{key}]"), f"{whose}: data[{key}]")
    auths = root["auths"] if secret.type == CONFIG_JSON else root
    if auths.value is None:
        auths.refuse("is required")
    if len(auths.names()) > REGISTRIES_MAX:
        auths.refuse(f"at most {REGISTRIES_MAX} registries are allowed, got {len(auths.names())}")
    for number, name in enumerate(auths.names()):
        field = Field(auths.value[name], f"{auths.path}[{number}]")
        if len(name) > REGISTRY_CHARS_MAX:
            field.refuse(f"the registry's name is longer than {REGISTRY_CHARS_MAX} characters")
        yield _registry(name), field


def _parsed(data: bytes, path: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(path, "is not JSON") from None


def _auth(field: Field) -> AuthConfig:
    told = field["auth"].text("").translate({10: None, 13: None})
    if not told:
        auth = AuthConfig(field["username"].text(""), field["password"].text(""))
        if not auth.username:
            field.refuse("has neither auth nor username: what a credential helper or a token holds cannot be used")
        return _unicode(field, auth)
    try:
        bare = told.rstrip("=")
        username, colon, password = b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode().partition(":")
    except ValueError:
        field["auth"].refuse("is not base64")
    if not colon or not username:
        field["auth"].refuse("is not base64 of username:password")
    return AuthConfig(username, password)


def _unicode(field: Field, auth: AuthConfig) -> AuthConfig:
    try:
        (auth.username + auth.password).encode()
    except UnicodeEncodeError:  # JSON can write half of a pair
        field.refuse("is not Unicode")
    return auth


def _registry(name: str) -> str:
    """`https://host/v1/team` → `host/team`."""
    rest = name.removeprefix("https://").removeprefix("http://")
    host, slash, path = rest.partition("/")
    path = slash + path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return host.rpartition("@")[2] + (path if path != "/" else "")


def _repository(image: str) -> str:
    """`hello:1` → `docker.io/library/hello`: as containerd completes it, without tag and digest."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    name = folder + slash + last.partition(":")[0]
    domain, slash, path = name.partition("/")
    if not slash or not (set(domain) & {".", ":"} or domain == "localhost" or domain != domain.lower()):
        domain, path = DEFAULT_DOMAIN, name
    if domain == DEFAULT_REGISTRY:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return f"{domain}/{path}"


def _covers(registry: str, repository: str) -> bool:
    """Port for port, path as a prefix, and the host part by part, each of which may be a glob."""
    glob, glob_path = _split(registry)
    host, path = _split(repository)
    (globs, glob_port), (parts, port) = _host(glob), _host(host)
    if glob_port != port or len(globs) != len(parts) or not path.startswith(glob_path):
        return False
    return all(_fits(one, part) for one, part in zip(globs, parts, strict=True))


def _fits(glob: str, part: str) -> bool:
    try:
        return fnmatchcase(part, glob.replace("[^", "[!"))
    except re.error:  # a range that runs backwards, on Python 3.10
        return False


def _split(name: str) -> tuple[str, str]:
    host, slash, path = name.partition("/")
    return host, slash + path


def _host(host: str) -> tuple[list[str], str]:
    """The parts between the points, and the port. An IPv6 address is one part, for its colons are no port."""
    address, bracket, port = host.rpartition("]")
    if bracket and address.startswith("[") and (not port or port.startswith(":")):
        return [address], port
    name, _, port = host.partition(":")
    return name.split("."), port


def _spellings(auth: AuthConfig) -> Iterator[str]:
    """The password as registries, HTTP and error texts write it."""
    word, both = auth.password.encode(), f"{auth.username}:{auth.password}".encode()
    if not auth.password:
        return
    yield from (auth.password, " ".join(auth.password.split()) or auth.password, json.dumps(auth.password)[1:-1])
    yield from (quote(auth.password, safe=""), quote_plus(auth.password))
    for encoded in (b64encode(word), b64encode(both), urlsafe_b64encode(word), urlsafe_b64encode(both)):
        yield encoded.decode().rstrip("=")
