"""The root of a target: Debian's packages configured, nothing of skerry and of boards. The slow part of an image.

`python3 -m image.configure` is what the unit `roots:root` runs, as root of its sandbox. Configures no kernel: that
would build an initrd under emulation, for a quarter of an hour. Same packages, same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import debs
from .limits import EPOCH
from .refusal import ToolFailed
from .targets import TARGETS, suite_of
from .tool import run

HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
QUIET = ("/usr/share/man", "/usr/share/doc", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian")


def main(argv: Sequence[str] | None = None) -> int:
    words = argparse.ArgumentParser(prog="image.configure", description=__doc__)
    words.add_argument("--debs", type=Path, required=True, help="a folder of packages; all are installed")
    words.add_argument("--target", required=True, choices=sorted(TARGETS))
    words.add_argument("--work", type=Path, default=Path("/tmp/archive"))  # noqa: S108 - the sandbox's own
    words.add_argument("--out", type=Path, required=True, metavar="TAR")
    args = words.parse_args(argv)
    try:
        configure(sorted(args.debs.glob("*.deb")), TARGETS[args.target], suite_of(args.target), args.work, args.out)
    except ToolFailed as why:
        print(f"image.configure: {why}", file=sys.stderr)
        return 1
    return 0


def configure(packages: Sequence[Path], arch: str, suite: str, work: Path, out: Path) -> None:
    """Write the tar of a root with `packages`, by way of an archive of just them in the new folder `work`."""
    debs.repository(work, packages, suite, arch)
    run(
        # No /sys in the chroot: nothing that is installed asks for it, and a user namespace may not mount it.
        ["mmdebstrap", f"--architectures={arch}", "--variant=essential", "--mode=root",
         "--skip=check/qemu,chroot/mount/sys", f"--hook-dir={HOOKS}", "--dpkgopt=force-unsafe-io",
         '--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"',
         *(f"--dpkgopt=path-exclude={path}/*" for path in QUIET),
         # Where the archive lay on the building machine is nobody's business, and another place each time.
         '--customize-hook=rm -f "$1/etc/apt/sources.list"',
         f"--include={','.join(path.name.partition('_')[0] for path in packages)}",
         "--format=tar", suite, out, f"deb [trusted=yes] copy:{work} ./"],
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
