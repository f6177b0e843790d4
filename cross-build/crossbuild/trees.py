"""A folder as one tar whose bytes depend on names, contents, links and the x bit alone, and back.

Knows nothing of stores and keys. Unpacking takes only what packing writes, so a tar from elsewhere cannot leave its
folder.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from crossbuild.errors import EntryRefused
from crossbuild.limits import CHUNK_BYTES, SOURCE_DATE_EPOCH


def pack(folder: Path, into: Path) -> None:
    """Write the tar of `folder`: sorted, owner 0, one time, modes 755 and 644. Raises OSError: what is no file."""
    with tarfile.open(into, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.mtime = SOURCE_DATE_EPOCH
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
                tar.addfile(entry)
            elif path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            elif path.is_file():
                entry.size, entry.mode = path.stat().st_size, 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    tar.addfile(entry, file)
            else:
                raise OSError(f"{path.name} is neither file, folder nor link")


def unpack(packed: Path, into: Path) -> None:
    """Unpack what `pack` wrote into the new folder `into`. Raises EntryRefused: anything that it does not write."""
    into.mkdir(parents=True)
    folders = {PurePosixPath(".")}
    try:
        with tarfile.open(packed, "r:") as tar:
            for entry in tar:
                name = PurePosixPath(entry.name)
                # A parent must be a folder of this tar, never a link: nothing is written through one.
                if name.is_absolute() or ".." in name.parts or name.parent not in folders:
                    raise EntryRefused(f"a tree with the odd name {entry.name!r}")
                to = into / name
                if entry.issym():
                    to.symlink_to(entry.linkname)
                elif entry.isdir():
                    to.mkdir()
                    folders.add(name)
                elif entry.isreg():
                    source = tar.extractfile(entry)
                    assert source is not None
                    with to.open("xb") as file:
                        shutil.copyfileobj(source, file, CHUNK_BYTES)
                    to.chmod(0o755 if entry.mode & 0o100 else 0o644)
                else:
                    raise EntryRefused(f"a tree with the odd entry {entry.name!r}")
    except (tarfile.TarError, OSError) as e:
        raise EntryRefused(f"a tree that is no tree ({e})") from e


def stamp(folder: Path) -> None:
    """Give all below `folder` one time and folders mode 755: when and with which umask it was made cannot be seen."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH), follow_symlinks=False)


def settle(made: Path, at: Path) -> None:
    """Move a finished folder to where it is looked for; another process may have been as fast with the same."""
    try:
        made.rename(at)
    except OSError:
        if not at.is_dir():
            raise
