"""What the rules of docs/rabbitmq.md let a client do, as its command writes them. That a real RabbitMQ takes and keeps
them, `make brokers` shows (e2e/test_rabbitmq.py)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet.rabbitmq import SCRIPT, on_page
from skerry.model.streams import streams_name
from skerry.world.link import down_topic, up_topic, will_topic
from skerry_hub import mosquitto

# In place of rabbitmqctl: what it is told to do, in order.
CTL = """#!/bin/sh
[ "$2" != import_definitions ] || { tr -d '\\n' <"$3"; echo; exit; }
echo "\\"$*\\""
"""
NODES = ("edge-1", "edge.1", "edgex1", "edge", "edge-1.up", "1")


def told(folder: Path, *args: str) -> list[Any]:
    (folder / "rabbitmqctl").write_text(CTL)
    (folder / "rabbitmqctl").chmod(0o755)
    (folder / SCRIPT).write_text(on_page()[SCRIPT])
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", folder / SCRIPT, *args], env=env, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def allowed(rule: dict[str, str], way: str, topic: str) -> bool:
    """As RabbitMQ asks: a search, in the topic with `.` for `/`."""
    return re.search(rule[way], topic.replace("/", ".")) is not None


Rules = dict[str, tuple[dict[str, str], dict[str, str]]]


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """Client → its rule of topics, its rule of queues."""
    found = {}
    for args in (("device", *NODES), ("hub", "hub")):
        first, second = told(tmp_path, *args)
        assert first.keys() == {"users", "topic_permissions"}, "no permission before the rules of topics"
        names = [user["name"] for user in first["users"]]
        assert all(user["password_hash"] == "" and not user["tags"] for user in first["users"])
        for name, topics, queues in zip(names, first["topic_permissions"], second["permissions"], strict=True):
            assert topics["user"] == queues["user"] == name
            found[name] = topics, queues
    return found


def test_a_client_may_speak_and_hear_as_itself_alone(rules: Rules) -> None:
    clients = [name for node in NODES for name in (node, streams_name(node))]
    for client in clients:
        topics, queues = rules[client]
        for other in clients:
            mine = other == client
            assert allowed(topics, "write", up_topic(other)) == allowed(topics, "write", will_topic(other)) == mine
            assert allowed(topics, "read", down_topic(other)) == mine
            assert not allowed(topics, "write", down_topic(other))
            assert not allowed(topics, "read", up_topic(other))
            for queue in (f"mqtt-subscription-{other}qos1", f"mqtt-will-{other}"):
                assert {bool(re.search(queues[way], queue)) for way in ("configure", "write", "read")} == {mine}
        # A filter is asked for as RabbitMQ spells it: `*` for `+`.
        for wanted in ("skerry/v1/*/down", "skerry/v1/*/*/down", "skerry/#", "#"):
            assert not allowed(topics, "read", wanted)


def test_a_hub_speaks_to_all_and_hears_all(rules: Rules) -> None:
    for client in mosquitto.hub_names():
        topics, _ = rules[client]
        for other in (*NODES, *map(streams_name, NODES)):
            assert allowed(topics, "write", down_topic(other))
            assert allowed(topics, "read", up_topic(other))
            assert allowed(topics, "read", will_topic(other))
            assert not allowed(topics, "write", up_topic(other))


def test_who_is_revoked_loses_both_users(tmp_path: Path) -> None:
    assert told(tmp_path, "revoke", "edge.1") == ["-q delete_user edge.1", "-q delete_user edge.1.streams"]
