"""Credentials for an image, as the Kubernetes documentation and the kubelet match them; what of an error is shown."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.amount import examples
from skerry.errors import Refused
from skerry.limits import PULL_KEYS_MAX, REGISTRIES_MAX, REGISTRY_CHARS_MAX
from skerry.model.manifest import ConfigData
from skerry.plan.keyring import CONFIG, CONFIG_JSON, KEYS, WITHHELD, matching, names, shown
from skerry.ports import AuthConfig

PASSWORD = "nobody-may-read-this"


def secret(data: Any, kind: str = CONFIG_JSON, name: str = "keys", key: str | None = None) -> ConfigData:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return ConfigData("default", name, True, ((KEYS.get(kind, "word") if key is None else key, raw),), type=kind)


def auths(*registries: str, **entry: Any) -> ConfigData:
    """Each with itself as the user."""
    return secret({"auths": {r: entry or {"username": r, "password": PASSWORD} for r in registries}})


def users(image: str, *registries: str) -> list[str]:
    return [auth.username for auth in matching(image, [auths(*registries)])]


# --- which registry is meant ------------------------------------------------------------------------------------------

MATCH = [
    # The examples of the documentation.
    ("images.example.com", "images.example.com/app:1", True),
    ("*.kubernetes.io", "abc.kubernetes.io/app", True),
    ("*.kubernetes.io", "kubernetes.io/app", False),
    ("*.*.kubernetes.io", "abc.def.kubernetes.io/app", True),
    ("*.*.kubernetes.io", "abc.kubernetes.io/app", False),
    ("prefix.*.io", "prefix.kubernetes.io/app", True),
    ("*-good.kubernetes.io", "prefix-good.kubernetes.io/app", True),
    ("*-good.kubernetes.io", "prefix-bad.kubernetes.io/app", False),
    ("my-registry.io/images", "my-registry.io/images/my-image", True),
    ("my-registry.io/images", "my-registry.io/images/subpath/my-image", True),
    ("my-registry.io/images", "another-registry.io/images/my-image", False),
    ("*.my-registry.io/images", "sub.my-registry.io/images/my-image", True),
    ("*.my-registry.io/images", "a.sub.my-registry.io/images/my-image", False),
    # Ports, schemes, paths.
    ("example.com:5000", "example.com:5000/app", True),
    ("example.com:5000", "example.com/app", False),
    ("example.com", "example.com:5000/app", False),
    ("*.example.com:5000", "a.example.com:5000/app@sha256:00", True),
    ("https://example.com", "example.com/app", True),
    ("http://example.com/", "example.com/app", True),
    ("https://example.com/v1/", "example.com/app", True),
    ("https://example.com/v2/team", "example.com/team/app", True),
    ("https://example.com/v2/team", "example.com/other/app", False),
    ("somebody@example.com", "example.com/app", True),
    ("example.com/team/app", "example.com/team/app:1.2", True),
    ("example.com/team/app:1.2", "example.com/team/app:1.2", False),
    ("[::1]:5000", "[::1]:5000/app:1", True),
    ("[::1]:5000", "[::2]:5000/app:1", False),
    ("localhost", "localhost/app", True),
    # The default registry, by all its names.
    ("https://index.docker.io/v1/", "hello:1", True),
    ("https://index.docker.io/v1/", "team/hello", True),
    ("https://index.docker.io/v1/", "docker.io/team/hello", True),
    ("https://index.docker.io/v1/", "index.docker.io/team/hello", True),
    ("https://index.docker.io/v1/", "example.com/hello", False),
    ("docker.io", "hello:1", True),
    ("docker.io/library/hello", "hello@sha256:00", True),
    ("docker.io/team", "other/hello", False),
    # What is no registry's name is for no image.
    ("", "hello", False),
    ("*", "example.com/app", False),
    ("**", "localhost/app", True),
    ("[", "example.com/app", False),
    ("[z-a]xample.com", "example.com/app", False),
    ("[d-f]xample.com", "example.com/app", True),
    ("[^a-d]xample.com", "example.com/app", True),
    ("/", "hello", False),
]


@pytest.mark.parametrize(("registry", "image", "fits"), MATCH)
def test_a_registry_is_for_an_image(registry: str, image: str, fits: bool) -> None:
    assert users(image, registry) == ([registry] if fits else [])


def test_the_most_specific_comes_first_and_the_default_only_where_nothing_else_fits() -> None:
    registries = ("example.com", "*.com", "example.com/team", "example.com/team/app", "example.com/other")
    assert users("example.com/team/app:1", *registries) == [
        "example.com/team/app", "example.com/team", "example.com", "*.com",
    ]  # fmt: skip
    assert users("hello", "https://index.docker.io/v1/", "docker.io") == ["docker.io"]


def test_several_secrets_for_one_registry_are_tried_in_the_order_in_which_the_pod_names_them() -> None:
    """So that credentials can be changed: the old and the new beside each other."""
    old, new = (auths("example.com", username=who, password=PASSWORD) for who in ("old", "new"))
    broader = auths("*.com", username="broad", password=PASSWORD)
    found = matching("example.com/app", [broader, old, new, old])
    assert [auth.username for auth in found] == ["old", "new", "broad"], "and the same ones are tried once"


def test_none_for_an_image_is_nothing_to_say_with() -> None:
    assert matching("example.com/app", []) == ()
    assert matching("example.com/app", [secret({"auths": {}}), auths("example.org")]) == ()


# --- what they are ----------------------------------------------------------------------------------------------------


def told(text: str, pad: bool = True) -> str:
    encoded = b64encode(text.encode()).decode()
    return encoded if pad else encoded.rstrip("=")


@pytest.mark.parametrize(
    ("entry", "username", "password"),
    [
        ({"username": "tide", "password": PASSWORD}, "tide", PASSWORD),
        ({"username": "tide", "password": PASSWORD, "email": "a@b", "auth": ""}, "tide", PASSWORD),
        ({"auth": told("tide:ebb:flow")}, "tide", "ebb:flow"),
        ({"auth": told("tide:e", pad=False)}, "tide", "e"),
        (
            {"auth": told("tide:" + "long " * 20)[:40] + "\r\n" + told("tide:" + "long " * 20)[40:]},
            "tide",
            "long " * 20,
        ),
        ({"auth": told("tide:ebb"), "username": "other", "password": "other"}, "tide", "ebb"),
        ({"auth": told("tide:")}, "tide", ""),
        ({"username": "tide"}, "tide", ""),
        ({"username": "tide", "password": "çé\n"}, "tide", "çé\n"),
    ],
)
def test_both_forms_of_an_entry_in_both_types_of_secret(entry: Any, username: str, password: str) -> None:
    for one in (secret({"auths": {"example.com": entry}}), secret({"example.com": entry}, CONFIG)):
        assert matching("example.com/app", [one]) == (AuthConfig(username, password),)


BAD = [
    (secret({}, "Opaque"), "Secret default/keys: type: is neither kubernetes.io/dockerconfigjson nor kubernetes.io/"),
    (secret({}, ""), "Secret default/keys: type: is neither"),
    (secret({}, key="config.json"), "Secret default/keys: data[.dockerconfigjson]: is required"),
    (secret({}, CONFIG, key=".dockerconfigjson"), "Secret default/keys: data[.dockercfg]: is required"),
    (secret(PASSWORD.encode()), "Secret default/keys: data[.dockerconfigjson]: is not JSON"),
    (secret(b""), "Secret default/keys: data[.dockerconfigjson]: is not JSON"),
    (secret(b"\xff\xfe" + PASSWORD.encode()), "Secret default/keys: data[.dockerconfigjson]: is not JSON"),
    (secret(b'{"auths":' * 100_000), "Secret default/keys: data[.dockerconfigjson]: is not JSON"),
    (secret(b"9" * 5000, CONFIG), "Secret default/keys: data[.dockercfg]: "),
    (secret([PASSWORD]), "Secret default/keys: data[.dockerconfigjson]: an object is expected"),
    (secret({"example.com": {}}), "Secret default/keys: data[.dockerconfigjson].auths: is required"),
    (secret({"auths": [PASSWORD]}), "Secret default/keys: data[.dockerconfigjson].auths: an object is expected"),
    (secret({"auths": {"a.org": {}, "example.com": PASSWORD}}), ".auths[1]: an object is expected"),
    (auths("example.com", auth=7), ".auths[0].auth: a string is expected"),
    (auths("example.com", auth=f"{PASSWORD}!"), ".auths[0].auth: is not base64"),
    (auths("example.com", auth="A"), ".auths[0].auth: is not base64"),
    (auths("example.com", auth=b64encode(b"a:\xff").decode()), ".auths[0].auth: is not base64"),
    (auths("example.com", auth=told(PASSWORD)), ".auths[0].auth: is not base64 of username:password"),
    (auths("example.com", auth=told(f":{PASSWORD}")), ".auths[0].auth: is not base64 of username:password"),
    (auths("example.com", username=[PASSWORD]), ".auths[0].username: a string is expected"),
    (auths("example.com", username="a", password={"x": PASSWORD}), ".auths[0].password: a string is expected"),
    (auths("example.com", username="a", password="\ud800"), ".auths[0]: is not Unicode"),
    (auths("example.com", password=PASSWORD), ".auths[0]: has neither auth nor username"),
    (auths("example.com", identitytoken=PASSWORD), ".auths[0]: has neither auth nor username"),
    (auths("x" * (REGISTRY_CHARS_MAX + 1)), ".auths[0]: the registry's name is longer than 512 characters"),
    (auths(*map(str, range(REGISTRIES_MAX + 1))), ".auths: at most 1000 registries are allowed, got 1001"),
]


@pytest.mark.parametrize(("bad", "problem"), BAD)
def test_a_bad_secret_is_named_with_the_field_and_never_with_what_is_in_it(bad: ConfigData, problem: str) -> None:
    with pytest.raises(Refused) as caught:
        matching("example.com/app", [bad])
    said = str(caught.value)
    assert problem in said
    assert "\n" not in said
    assert not [word for word in (PASSWORD, told(PASSWORD), "example.com", "config.json", "xxx") if word in said]


NAMES = st.text(st.sampled_from("aé.*[]!^-?\\/:@1 \x00"), max_size=9) | st.just("example.com")
ENTRIES = st.dictionaries(st.sampled_from(["auth", "username", "password"]), st.text() | st.integers() | st.none())


@given(st.dictionaries(NAMES, ENTRIES | st.none() | st.integers()), NAMES | st.text())
@settings(max_examples=examples(300))
def test_whatever_it_holds_it_is_read_or_refused(said: Any, image: str) -> None:
    for one in (secret({"auths": said}), secret(said, CONFIG)):
        with contextlib.suppress(Refused):
            for auth in matching(image, [one]):
                assert shown(f"no: {auth.password}", [auth]) == WITHHELD or not auth.password.strip()


@given(st.binary())
@settings(max_examples=examples(300))
def test_whatever_bytes_it_is_it_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        matching("example.com/app", [secret(data)])


def test_what_is_wrong_with_another_registrys_entry_holds_up_nothing() -> None:
    one = secret({"auths": {"example.org": {"auth": "!"}, "example.net": 7, "example.com": {"auth": told("a:b")}}})
    assert matching("example.com/app", [one]) == (AuthConfig("a", "b"),)


def test_so_many_credentials_for_one_image_are_a_mistake() -> None:
    many = [auths("example.com", username=str(n), password="x") for n in range(PULL_KEYS_MAX + 1)]
    assert len(matching("example.com/app", many[1:])) == PULL_KEYS_MAX
    with pytest.raises(Refused, match=f"spec.imagePullSecrets: {PULL_KEYS_MAX + 1} credentials"):
        matching("example.com/app", many)


def test_credentials_are_in_no_repr() -> None:
    assert repr(AuthConfig("tide", PASSWORD)) == "AuthConfig()"


# --- what a registry says ---------------------------------------------------------------------------------------------

AUTH = AuthConfig("tide", 'a "strange" pass/wörd+1')


@pytest.mark.parametrize(
    "leak",
    [
        'a "strange" pass/wörd+1',
        'a \\"strange\\" pass/w\\u00f6rd+1',
        "a%20%22strange%22%20pass%2Fw%C3%B6rd%2B1",
        "a+%22strange%22+pass%2Fw%C3%B6rd%2B1",
        b64encode(b"tide:" + AUTH.password.encode()).decode(),
        b64encode(AUTH.password.encode()).decode().rstrip("="),
        'it begins: a "stran',
        'ge" pass it ends',
    ],
)
def test_a_text_with_a_password_in_it_is_not_shown_however_it_is_spelled(leak: str) -> None:
    assert shown(f"401 Unauthorized: {leak} is wrong", [AuthConfig("x", "y z"), AUTH]) == WITHHELD


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("pulling from host a.org: 401 Unauthorized", "pulling from host a.org: 401 Unauthorized"),
        ("GET https://a.org/token?account=tide&scope=x: 401", "GET https://a.org/token?... 401"),
        ('"https://tide:word@a.org/v2/": no such host', '"https://a.org/v2/": no such host'),
        ('failed to resolve "a.org/x@sha256:00": really? no', 'failed to resolve "a.org/x@sha256:00": really? no'),
    ],
)
def test_a_text_without_one_is_shown_but_for_users_and_queries_in_addresses(text: str, means: str) -> None:
    assert shown(text, [AUTH, AuthConfig("tide", "")]) == means


def test_a_short_password_is_looked_for_whole() -> None:
    assert shown("401 for tide", [AuthConfig("tide", "401")]) == WITHHELD
    assert shown("403 for tide", [AuthConfig("tide", "401")]) == "403 for tide"


def test_missing_ones_are_told_in_the_kubelets_words() -> None:
    want = "Unable to retrieve some image pull secrets (a, b); attempting to pull the image may not succeed."
    assert names(("a", "b")) == want
