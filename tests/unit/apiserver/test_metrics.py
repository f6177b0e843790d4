"""The embedded API's own /metrics, read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from unit.apiserver.serving import Client


def read(api: Client) -> dict[str, float]:
    code, said = api.call("GET", "/metrics")
    assert code == 200
    return {s.name: s.value for family in text_string_to_metric_families(said["text"]) for s in family.samples}


def test_counters_grow_and_gauges_are_of_this_moment(api: Client) -> None:
    before = read(api)
    path = "/api/v1/namespaces/default/configmaps"
    assert api.call("POST", path, {"metadata": {"name": "seen"}, "data": {"a": "x" * 1000}})[0] == 201
    connection, reply = api.open("GET", f"{path}?watch=true")
    during = read(api)
    reply.close()
    connection.close()
    assert api.call("DELETE", f"{path}/seen")[0] == 200
    assert during["skerry_api_requests_total"] > before["skerry_api_requests_total"] > 0
    assert during["skerry_api_watches"] == before["skerry_api_watches"] + 1
    assert during["skerry_api_watches_total"] == before["skerry_api_watches_total"] + 1
    assert during["skerry_api_object_bytes"] > before["skerry_api_object_bytes"] + 1000
    assert during["skerry_api_resource_version"] > before["skerry_api_resource_version"]
    assert {"skerry_api_stats_fetches_total", "skerry_api_node_requests_total"} <= set(during)
