"""`skerry enroll`: what a person or a board's script types to make this device one of a hub.

Imported by its own command only.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from skerry import identity
from skerry.config import Config
from skerry.errors import EnrolmentFailed, EnrolmentRefused, Malformed
from skerry.identity import Enrolled
from skerry.limits import TOKEN_CHARS_MAX
from skerry.wire import token as tokens
from skerry.wire import x509
from skerry.wire.token import Token
from skerry.world.device_key import KeysInFiles
from skerry.world.enrolment import current, enrol, judge

STDIN = "-"


def run(config: Config, args: argparse.Namespace) -> str:
    """What came of it, in one line. Raises EnrolmentRefused, EnrolmentFailed, KeyFailed."""
    token, node = said(args), config.node if config.node_given else ""
    if args.check:
        judge(token, node, current(config.data_dir), args.force)
        return f"token {token.ident}: node {token.node}, hub {token.url}"
    enrolled = enrol(config.data_dir, token, KeysInFiles(), node, args.force)
    identity.forget_used(config.data_dir, token)
    return summary(enrolled) + "; systemctl restart skerry takes it into use"


def said(args: argparse.Namespace) -> Token:
    """The token of the command line, of a file, or of standard input. Raises EnrolmentRefused, EnrolmentFailed."""
    try:
        if args.token is not None and args.token_file is None:
            return tokens.decode(args.token)
        if args.token_file == STDIN and args.token is None:
            return tokens.decode(_typed())
        if args.token_file is not None and args.token is None:
            return identity.token(Path(args.token_file))
    except Malformed as why:
        raise EnrolmentRefused(str(why)) from None
    except OSError as why:
        where = "standard input" if args.token_file == STDIN else args.token_file
        raise EnrolmentFailed(f"{where}: {why.strerror}") from None
    raise EnrolmentRefused("one token is wanted: skerry enroll TOKEN, or skerry enroll --token-file F")


def _typed() -> str:
    """What standard input says, whatever the locale makes of it. Raises OSError, also where it is closed."""
    with open(0, "rb", closefd=False) as stdin:
        return stdin.read(4 * TOKEN_CHARS_MAX).decode("utf-8-sig", "replace")


def summary(enrolled: Enrolled) -> str:
    """One line: who, where and until when. Raises Malformed."""
    issued = enrolled.issued
    ends = x509.read(x509.pem_blocks(issued.certificate)[0]).ends
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
    return f"enrolled as {issued.node} at {issued.broker}, certificate valid until {until}"
