"""Why an artefact cannot be made: which file, which field of it, what was found there and what is wanted."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Refusal(Exception):
    """Wrong input, and whose: `file` as it was given or relative to the tree that is checked, `field` what in it."""

    def __init__(self, file: str, field: str, found: str, wanted: str) -> None:
        super().__init__(f"{file}: {field}: found {found}, wanted {wanted}")
        self.file, self.field, self.found, self.wanted = file, field, found, wanted


class Refusals(Exception):
    """Everything that is wrong with one input, so that it is cured in one go."""

    def __init__(self, all_of_them: Sequence[Refusal]) -> None:
        super().__init__("\n".join(map(str, all_of_them)))
        self.all_of_them = tuple(all_of_them)


def toml(where: str, text: str) -> dict[str, Any]:
    """The table of a TOML file; Python 3.10 has no reader of its own. Raises Refusal."""
    reader: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        said: dict[str, Any] = reader.loads(text)
    except reader.TOMLDecodeError as why:
        raise Refusal(where, "TOML", str(why), "key = value lines") from why
    return said


def entry(action: Callable[[], None]) -> None:
    """Run an action as a program: 0 done, 2 refused with one line for each reason, 1 a tool failed."""
    try:
        action()
    except (Refusal, Refusals) as why:
        print(why, file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as why:
        said = why.stderr or b""
        print(said.decode(errors="replace") if isinstance(said, bytes) else said, file=sys.stderr)
        print(f"{Path(str(why.cmd[0])).name} ended with {why.returncode}", file=sys.stderr)
        sys.exit(1)
