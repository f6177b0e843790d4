"""`skerry-hub api|run|up|join|token|adopt|revoke|status|ui`: arguments in, one exit code out. Data goes to standard
output, one line of trouble to standard error, never a traceback."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skerry.errors import ConfigInvalid, SkerryError
from skerry_hub import token_arguments
from skerry_hub.limits import DEVICE_DAYS, LEASE_DURATION_S, LEASE_S_MAX, LEASE_S_MIN

API_LISTEN = "127.0.0.1:6443"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script. 0 is success, 1 trouble in the world, 2 wrong input."""
    args = _arguments().parse_args(argv)
    try:
        return COMMANDS[args.command](args)
    except ConfigInvalid as why:
        _trouble(str(why))
        return 2
    except SkerryError as why:
        _trouble(str(why))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _api(args: argparse.Namespace) -> int:
    from skerry_hub import boot

    return boot.run(boot.serve_api(args.data, args.listen, args.insecure))


def _run(args: argparse.Namespace) -> int:
    from skerry_hub import boot, join
    from skerry_hub.broker_options import BrokerFiles, broker_options
    from skerry_hub.enrolment import authority as device_authority
    from skerry_hub.enrolment.options import enrolment_options
    from skerry_hub.kubelet.options import endpoint_options

    kubelet = endpoint_options(
        args.kubelet_cert, args.kubelet_key, args.kubelet_client_ca, args.kubelet_listen, args.kubelet_address,
        args.kubelet_ports, args.kubelet_server_tls_bootstrap,
    )  # fmt: skip
    if args.replica:
        join.node_name(args.replica, "--replica")
    if not LEASE_S_MIN <= args.lease_seconds <= LEASE_S_MAX:
        raise ConfigInvalid("--lease-seconds", f"must be {LEASE_S_MIN} to {LEASE_S_MAX}")
    ca_files = (args.device_ca_cert, args.device_ca_key)
    authority = device_authority.load(*ca_files) if any(ca_files) else None
    files = BrokerFiles(
        args.broker_ca, args.broker_cert, args.broker_key, args.broker_streams_cert, args.broker_streams_key
    )
    broker = broker_options(
        args.broker, files, authority, replica=args.replica, client_id=boot.client_id(), insecure=args.insecure
    )
    enrolment = enrolment_options(
        authority, args.enroll_listen, args.enroll_address, args.enroll_url, args.device_broker, args.broker,
        args.device_cert_days,
    )  # fmt: skip
    return boot.run(
        boot.serve_hub(
            args.kubeconfig,
            broker,
            args.insecure,
            args.status_socket,
            args.replica,
            args.lease_seconds,
            args.metrics_listen,
            kubelet,
            enrolment,
            boot.protection(authority, args.replica, broker),
            args.revoked_file,
        )
    )


def _up(args: argparse.Namespace) -> int:
    from skerry_hub import boot, up
    from skerry_hub.listener import parse_listen

    parse_listen("--listen", args.listen, insecure=False)  # before any child starts
    return boot.run(up.up(args.data, args.listen, args.mqtt_port, args.enroll_port, up.reachable(args.address)))


def _join(args: argparse.Namespace) -> int:
    from skerry_hub import boot, join

    node = join.node_name(args.node)
    toml = join.device_toml(node, args.broker)
    new = boot.run(boot.with_cluster(args.kubeconfig, lambda cluster: join.join(cluster, node, not args.no_taint)))
    data = {"node": node, "broker": args.broker, "new": new, "config": toml}
    _show(args.output, data, toml.rstrip("\n"))
    if not new:
        print(f"skerry-hub: node {node} was there already", file=sys.stderr)
    return 0


def _token(args: argparse.Namespace) -> int:
    data, text = token_arguments.do(args)
    _show(args.output, data, text)
    if data.get("replaces"):
        print(f"skerry-hub: {data['node']} is enrolled: who uses this token takes its place", file=sys.stderr)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from skerry.world.clock import SystemClock
    from skerry_hub import boot, join
    from skerry_hub.enrolment.revoke import revoke

    node = join.node_name(args.node)
    done = boot.run(boot.with_cluster(args.kubeconfig, lambda cluster: revoke(cluster, SystemClock(), node)))
    data = {"node": node, "new": done.new, "serials": done.serials, "tokens": done.tokens}
    _show(args.output, data, f"revoked {node}" if done.new else f"{node} was revoked already")
    return 0


def _adopt(args: argparse.Namespace) -> int:
    from skerry_hub import boot, join

    node = None if args.all else join.node_name(args.node)
    names = boot.run(boot.with_cluster(args.kubeconfig, lambda cluster: join.adopt(cluster, node)))
    _show(args.output, {"adopted": names}, "\n".join(f"adopted {name}" for name in names) or "there are no devices")
    return 0


def _status(args: argparse.Namespace) -> int:
    from skerry_hub import boot

    found = boot.read_snapshot(args.socket)
    _show(args.output, found, _table(found))
    return 0


def _ui(args: argparse.Namespace) -> int:
    from skerry_hub import boot

    return boot.run(boot.serve_ui(args.kubeconfig, args.socket, args.listen, args.insecure))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "api": _api,
    "run": _run,
    "up": _up,
    "join": _join,
    "token": _token,
    "adopt": _adopt,
    "revoke": _revoke,
    "status": _status,
    "ui": _ui,
}


def _arguments() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="skerry-hub", description="The fleet of skerry devices behind plain kubectl.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    api = commands.add_parser("api", help="serve the embedded Kubernetes API")
    run = commands.add_parser("run", help="run the hub: the devices' sessions, against any Kubernetes API")
    up = commands.add_parser("up", help="broker, API and hub on this machine, in the foreground")
    join = commands.add_parser("join", help="let a device come: make its Node, print its configuration")
    token = commands.add_parser("token", help="tokens that enrol devices: create, list, delete")
    adopt = commands.add_parser("adopt", help="after a restore: let this API replace what devices run")
    revoke = commands.add_parser("revoke", help="a device is one no more: no session, no renewal")
    status = commands.add_parser("status", help="sessions, queues and drops of a running hub")
    for command in (api, up):
        command.add_argument("--data", type=_folder, required=True, metavar="DIR", help="where everything is kept")
        command.add_argument("--listen", default=API_LISTEN, metavar="HOST:PORT", help=f"default {API_LISTEN}")
    ui = commands.add_parser("ui", help="one read-only page of the fleet, for a browser on this machine")
    for command in (run, join, adopt, revoke, ui):
        command.add_argument("--kubeconfig", type=Path, default=_kubeconfig(), metavar="F", help="default $KUBECONFIG")
    run.add_argument("--broker", required=True, metavar="URL", help="mqtts://HOST:PORT, or mqtt:// on loopback")
    join.add_argument("--broker", required=True, metavar="URL", help="mqtt://HOST:PORT")
    _secure_arguments(run)
    token_arguments.add(token, _kubeconfig())
    for command in (api, run, ui):
        command.add_argument("--insecure", action="store_true", help="allow addresses beyond loopback without TLS")
    run.add_argument("--status-socket", type=Path, metavar="S", help="unix socket for skerry-hub status")
    run.add_argument("--metrics-listen", default="", metavar="HOST:PORT", help="Prometheus metrics; default: none")
    run.add_argument("--kubelet-cert", type=Path, metavar="F", help="serve logs, exec and port-forward with this, PEM")
    run.add_argument("--kubelet-key", type=Path, metavar="F", help="its key")
    run.add_argument("--kubelet-server-tls-bootstrap", action="store_true", help="or with one that the cluster signs")
    run.add_argument("--kubelet-client-ca", type=Path, metavar="F", help="whose client certificates may ask, PEM")
    run.add_argument("--kubelet-listen", default="127.0.0.1", metavar="IP", help="default 127.0.0.1")
    run.add_argument("--kubelet-address", default="", metavar="IP", help="what nodes show; default: --kubelet-listen")
    run.add_argument("--kubelet-ports", default="", metavar="FIRST-LAST", help="one for each device; 10350-20349")
    run.add_argument("--replica", default="", metavar="NAME", help="share the devices with other replicas; own name")
    run.add_argument("--lease-seconds", type=int, default=LEASE_DURATION_S, metavar="N", help="of the devices' Leases")
    up.add_argument("--address", default="127.0.0.1", metavar="HOST", help="where devices reach this machine")
    for port in ("--mqtt-port", "--enroll-port"):
        up.add_argument(port, type=int, default=None, metavar="N", help="default: as before, or a free one")
    for command in (join, adopt, revoke, status):
        command.add_argument("--output", choices=("text", "json"), default="text")
    for command in (join, revoke):
        command.add_argument("node", metavar="NODE")
    join.add_argument("--no-taint", action="store_true", help="pods that tolerate nothing may run on it")
    which = adopt.add_mutually_exclusive_group(required=True)
    which.add_argument("node", nargs="?", metavar="NODE")
    which.add_argument("--all", action="store_true", help="every device")
    status.add_argument("--socket", type=Path, required=True, metavar="S", help="the hub's --status-socket")
    ui.add_argument("--socket", type=Path, metavar="S", help="a hub's --status-socket, for bytes and generations")
    ui.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="default: any free port of 127.0.0.1")
    return top


def _secure_arguments(run: argparse.ArgumentParser) -> None:
    run.add_argument("--broker-ca", type=Path, metavar="F", help="who signed the broker, PEM; default --device-ca-cert")
    run.add_argument("--broker-cert", type=Path, metavar="F", help="the hub at the broker, PEM; default: made")
    run.add_argument("--broker-key", type=Path, metavar="F", help="its key")
    run.add_argument("--broker-streams-cert", type=Path, metavar="F", help="the hub at the broker, for streams")
    run.add_argument("--broker-streams-key", type=Path, metavar="F", help="its key")
    run.add_argument("--device-ca-cert", type=Path, metavar="F", help="the authority of the devices, PEM")
    run.add_argument("--device-ca-key", type=Path, metavar="F", help="its key")
    run.add_argument("--device-cert-days", type=int, default=DEVICE_DAYS, metavar="N", help=f"default {DEVICE_DAYS}")
    run.add_argument("--revoked-file", type=Path, metavar="F", help="keep the names of revoked nodes here")
    run.add_argument("--device-broker", default="", metavar="URL", help="what devices are told; default: --broker")
    run.add_argument("--enroll-listen", default="", metavar="HOST:PORT", help="enrol devices here; default: nowhere")
    run.add_argument(
        "--enroll-address",
        action="append",
        default=[],
        metavar="NAME",
        help="by which devices dial it; repeat for more",
    )
    run.add_argument(
        "--enroll-url", default="", metavar="URL", help="what devices are told; default: the first address"
    )


def _folder(text: str) -> Path:
    """Not the current one because a variable of a script was empty."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text)


def _kubeconfig() -> Path | None:
    said = os.environ.get("KUBECONFIG")
    return Path(said) if said else None


def _show(output: str, data: dict[str, Any], text: str) -> None:
    """Raises SkerryError: what nobody got was not done for nothing, and says so."""
    try:
        print(json.dumps(data, indent=1, sort_keys=True) if output == "json" else text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as why:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries again at its end
        raise SkerryError(f"standard output: {why.strerror}") from None


def _table(found: dict[str, Any]) -> str:
    columns = ("state", "queue", "frames", "dropped_queue", "dropped_credit", "malformed", "floods", "generation")
    rows = [("NODE", *(c.upper().replace("_", "-") for c in columns))]
    rows += [(node, *(str(shown[c]) for c in columns)) for node, shown in found["devices"].items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"broker {'connected' if found['connected'] else 'away'}")
    if trust := found.get("trust"):  # not of a hub without TLS
        said = [shown.get("trust") for shown in found["devices"].values()]
        unheard = f"; {said.count('')} have not said" if "" in said else ""
        lines.append(f"authorities {trust}: believed by {said.count(trust)} of {len(said)} devices{unheard}")
    return "\n".join(lines)


def _trouble(line: str) -> None:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"\x1b[31mskerry-hub:\x1b[0m {line}" if colour else f"skerry-hub: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
