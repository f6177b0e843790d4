"""`skerry run|status|explain|get|logs|exec|restart|enroll|doctor`: arguments in, one exit code out.

Data goes to standard output, one line of trouble to standard error, never a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry import __version__
from skerry.errors import ConfigInvalid, EnrolmentRefused, SkerryError

DEFAULT_CONFIG = "/etc/skerry/config.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script. 0 is success, 1 trouble in the world, 2 wrong input."""
    args = _arguments().parse_args(argv)
    try:
        from skerry.config import load

        config = load(Path(args.config))
        if args.command == "run":
            from skerry import boot

            return boot.run(config)
        if args.command == "doctor":
            from skerry import doctor

            report = doctor.examine(config)
            _show(report, args.output)
            return 0 if report["good"] else 1
        if args.command == "enroll":
            from skerry import enroll

            _print(enroll.run(config, args))
            return 0
        if args.command in ("logs", "exec", "restart"):
            from skerry import by_hand

            return by_hand.run(config, args)
        if args.command == "get":
            from skerry.by_hand import rows

            _show(rows.get(config, args), args.output)
            return 0
        from skerry import inspect_journal

        report = inspect_journal.COMMANDS[args.command](config, args)
        _show(report, args.output)
        return 0
    except (ConfigInvalid, EnrolmentRefused) as why:
        print(f"skerry: {why}", file=sys.stderr)
        return 2
    except SkerryError as why:
        print(f"skerry: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _arguments() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="skerry", description="Runs Kubernetes pods on this board, online or not.")
    top.add_argument("--version", action="version", version=f"skerry {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    config = os.environ.get("SKERRY_CONFIG", DEFAULT_CONFIG)
    run = commands.add_parser("run", help="run the agent in the foreground")
    status = commands.add_parser("status", help="what this device should run and what it says of it, from the journal")
    explain = commands.add_parser("explain", help="what was decided for a pod and why, from the journal")
    explain.add_argument("pod", metavar="POD", help="NAME, NAMESPACE/NAME or uid")
    by_hand = _by_hand(commands)
    enroll = _enroll(commands)
    doctor = commands.add_parser("doctor", help="whether this board is fit to run pods, and what would cure it")
    for command in (run, status, explain, enroll, doctor, *by_hand):
        command.add_argument("--config", default=config, metavar="F", help=f"default {config}")
    for command in (status, explain, doctor, by_hand[0]):
        command.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return top


def _by_hand(commands: Any) -> list[argparse.ArgumentParser]:
    """Those that a person at the box types, in kubectl's words: get, logs, exec, restart."""
    get = commands.add_parser("get", help="the pods of this device as kubectl shows them, from the journal")
    get.add_argument("what", nargs="?", choices=("pods", "pod", "po"), default="pods", help=argparse.SUPPRESS)
    logs = commands.add_parser("logs", help="a container's log")
    run = commands.add_parser("exec", help="run a command in a container: skerry exec POD -- COMMAND")
    restart = commands.add_parser("restart", help="stop a pod's containers, so that the agent starts them again")
    for command in (logs, run, restart):
        command.add_argument("pod", metavar="POD", help="NAME, NAMESPACE/NAME or uid")
    for command in (logs, run):
        command.add_argument("-c", "--container", default="", metavar="C", help="where the pod has several")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("-p", "--previous", action="store_true", help="of the container before this one")
    logs.add_argument("--tail", type=_count, metavar="N", help="the last N lines")
    logs.add_argument("--since", metavar="D", help="no older than, such as 30s, 5m or 1h30m")
    logs.add_argument("--timestamps", action="store_true", help="each line with its time")
    run.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    run.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    run.add_argument("argv", nargs="+", metavar="COMMAND", help="the command and its arguments, after --")
    return [get, logs, run, restart]


def _enroll(commands: Any) -> argparse.ArgumentParser:
    enroll: argparse.ArgumentParser = commands.add_parser("enroll", help="make this device one of a hub, by a token")
    enroll.add_argument("token", nargs="?", metavar="TOKEN", help="the line that skerry-hub token create printed")
    enroll.add_argument("--token-file", metavar="F", help="a file with that line, which ps does not show; - is stdin")
    enroll.add_argument("--check", action="store_true", help="only say what it is for, and whether it may be used")
    enroll.add_argument("--force", action="store_true", help="also where this device is enrolled under another name")
    return enroll


def _count(text: str) -> int | None:
    """A number of lines; -1 is all of them, as for kubectl."""
    number = int(text)
    if number < -1:
        raise ValueError
    return None if number == -1 else number


def _show(report: Any, output: str) -> None:
    """A report is {"lines": [...], "data": ...}: text for people, data for programs."""
    if output == "json":
        import json

        _print(json.dumps(report["data"], indent=1, sort_keys=True))
    else:
        _print("\n".join(report["lines"]))


def _print(text: str) -> None:
    """A reader that went away, or a disk that is full, shows here and not in the interpreter's last moments. Raises
    BrokenPipeError, SkerryError."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as why:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SkerryError(f"standard output: {why.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
