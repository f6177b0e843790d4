"""ports.Manifests: a folder on disk, watched by inotify(7), and the two languages that its files are written in.

Decides which names are manifests and when a writer seems to be done; what the documents mean is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.errors import FolderFailed, Malformed
from skerry.limits import LOCAL_FILE_BYTES_MAX, LOCAL_FILES_MAX, LOCAL_SETTLE_S, LOCAL_WRITING_S
from skerry.ports import ManifestFile
from skerry.world.debian import debian_packages
from skerry.world.inotify import MODIFY, Folder, Happened

YAML, JSON = (".yaml", ".yml"), (".json",)
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not hold anybody up


class ManifestFolder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._watches: dict[Path, Folder] = {}

    async def read(self) -> tuple[ManifestFile, ...]:
        self._watch()
        try:
            names = sorted(p.name for p in self._path.iterdir() if is_manifest(p.name))
        except FileNotFoundError:
            return ()
        except OSError as why:
            raise FolderFailed(f"{self._path}: {why.strerror}") from None
        over = f"over LOCAL_FILES_MAX ({LOCAL_FILES_MAX}) files are in the folder; those first by name are read"
        files = [read_file(self._path, name) for name in names[:LOCAL_FILES_MAX]]
        return (*files, *(ManifestFile(name, b"", over) for name in names[LOCAL_FILES_MAX : LOCAL_FILES_MAX + 1]))

    async def parse(self, file: ManifestFile) -> tuple[object, ...]:
        if file.name.endswith(JSON):
            return parse_json(file.data)
        return await asyncio.to_thread(parse_yaml, file.data)  # some seconds on a small board

    async def changed(self) -> None:
        writing: set[str] = set()  # names that are open for writing
        while not (news := await self._something(None)):
            pass
        end = asyncio.get_running_loop().time() + LOCAL_WRITING_S
        while (news or writing) and asyncio.get_running_loop().time() < end:
            for happened in news:
                (writing.add if happened.mask & MODIFY else writing.discard)(happened.name)
            news = await self._something(LOCAL_SETTLE_S)
        self.close()  # `read` watches anew: the folder itself may be another one now

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    # --- private ------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Hear of the folder's files, if it is there, and of the folder's coming and going."""
        self.close()
        above = self._path.parent
        try:
            if self._path.is_dir():
                self._watches[self._path] = Folder(self._path)
            while not above.is_dir():
                above = above.parent
            self._watches[above] = Folder(above)
        except OSError as why:
            self.close()
            raise FolderFailed(f"cannot watch {self._path}: {why.strerror}") from None

    async def _something(self, timeout_s: float | None) -> list[Happened]:
        """What has happened that concerns the folder; waits for it, up to `timeout_s` seconds."""
        if not self._watches:
            raise FolderFailed(f"{self._path} is not watched")
        tasks = {asyncio.ensure_future(w.changed(timeout_s)): path for path, w in self._watches.items()}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return [h for task in done for h in task.result() if self._concerns(tasks[task], h)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _concerns(self, where: Path, happened: Happened) -> bool:
        if where == self._path:
            return not happened.name or is_manifest(happened.name)
        return not happened.name or happened.name == self._path.relative_to(where).parts[0]


def is_manifest(name: str) -> bool:
    """Hidden files and what editors leave behind are none."""
    return not name.startswith(".") and name.endswith(YAML + JSON)


def read_file(folder: Path, name: str) -> ManifestFile:
    """A file, or why it cannot be read."""
    try:
        fd = os.open(folder / name, FLAGS)
    except OSError as why:
        return ManifestFile(name, b"", why.strerror or "cannot be opened")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ManifestFile(name, b"", "is not a regular file")
        with os.fdopen(os.dup(fd), "rb") as file:
            data = file.read(LOCAL_FILE_BYTES_MAX + 1)
    except OSError as why:
        return ManifestFile(name, b"", why.strerror or os.strerror(errno.EIO))
    finally:
        os.close(fd)
    if len(data) > LOCAL_FILE_BYTES_MAX:
        return ManifestFile(name, b"", f"is larger than LOCAL_FILE_BYTES_MAX ({LOCAL_FILE_BYTES_MAX})")
    return ManifestFile(name, data)


def parse_json(data: bytes) -> tuple[object, ...]:
    """The one document of a JSON file. Raises Malformed."""
    import json

    try:
        text = data.decode()
        return (json.loads(text, parse_float=str, parse_constant=_no_constant, object_pairs_hook=_once),)
    except UnicodeDecodeError as why:
        raise Malformed("is not UTF-8", why.start) from None
    except json.JSONDecodeError as why:
        raise Malformed(f"is not JSON: {why.msg} in line {why.lineno}") from None
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except ValueError as why:  # an integer of thousands of digits
        raise Malformed(str(why)) from None


def parse_yaml(data: bytes) -> tuple[object, ...]:
    """The documents of a YAML file but the empty ones. Raises Malformed. The parser is imported when first needed."""
    yaml = _yaml()
    try:
        return tuple(d for d in yaml.load_all(data.decode(), Loader=_loader(yaml)) if d is not None)
    except UnicodeDecodeError as why:
        raise Malformed("is not UTF-8", why.start) from None
    except yaml.MarkedYAMLError as why:
        line = f" in line {why.problem_mark.line + 1}" if why.problem_mark is not None else ""
        raise Malformed(f"is not YAML: {why.problem}{line}") from None
    except yaml.YAMLError as why:
        raise Malformed(f"is not YAML: {str(why).splitlines()[0]}") from None
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except (ValueError, TypeError, AttributeError) as why:
        raise Malformed(f"is not YAML: {why}") from None


def _yaml() -> Any:
    """PyYAML: beside skerry, or Debian's own, from which the installed program is otherwise isolated. Raises Malformed
    where there is none."""
    try:
        with debian_packages():
            import yaml
    except ImportError:
        raise Malformed("YAML needs the package python3-yaml, which is not installed; write it as JSON") from None
    return yaml


_LOADERS: list[Any] = []


def _loader(yaml: Any) -> Any:
    """PyYAML's safe loader with what Kubernetes makes of YAML: dates and numbers with a point are text, no base 60, and
    no key twice."""
    if _LOADERS:
        return _LOADERS[0]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    left_out = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
    kept = yaml.SafeLoader.yaml_implicit_resolvers
    Loader.yaml_implicit_resolvers = {c: [r for r in rs if r[0] not in left_out] for c, rs in kept.items()}
    plain = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o?[0-7]+)$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", plain, list("-+0123456789"))

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        _once([(k.value, None) for k, _ in node.value if isinstance(k, yaml.ScalarNode)])
        loader.flatten_mapping(node)
        pairs = ((loader.construct_object(k, deep=True), loader.construct_object(v, deep=True)) for k, v in node.value)
        return dict(pairs)

    def integer(loader: Any, node: Any) -> int:
        said = loader.construct_scalar(node).lower()
        sign, digits = (-1 if said.startswith("-") else 1), said.lstrip("+-")
        base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") and digits != "0" else 10
        return sign * int(digits.removeprefix("0x").removeprefix("0o"), base)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    _LOADERS.append(Loader)
    return Loader


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[Any] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise Malformed(f"the key {str(twice)[:40]!r} is there twice")
    return out


def _no_constant(name: str) -> Callable[[str], Any]:
    raise Malformed(f"{name} is not a number that JSON has")
