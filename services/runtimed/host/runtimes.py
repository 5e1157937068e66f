"""Which OCI runtimes are installed, and which of them really work here: found out by making a container.

A crun that is older than 1.9, for one, refuses hosts whose version 2 cgroup tree has controllers beside version 1, when
it makes a container; afterwards it does not look. Where it does not see that tree it makes one: so it is called in a
mount namespace of its own. That ends with it, because it holds copies of all mounts, which would outlive theirs; and
but for this tree's place all mounts go on propagating as on the host.
"""

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from runtimed.cgroups.naming import CgroupDriver, CgroupNames, is_scope, oci_path
from runtimed.conmon.conmon import CONTAINER_UMASK, SYSTEMD_OPTION
from runtimed.conmon.process import runtime_environ
from runtimed.host.advisories import Version, parse_version, vulnerabilities
from runtimed.host.facts import CgroupLayout, HostFacts
from sampan.errors import InvalidArgumentError
from sampan.log import log
from sampan.sys.processes import open_process

PREFERRED: Final = ("crun", "runc")

# What containerd calls runc; Docker's clients may name it.
ALIASES: Final = ("io.containerd.runc.v2",)

# Where a newer one is put beside the distribution's, whether or not $PATH leads there.
PLACES: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# Of one call of a runtime, which takes some 20 ms: a machine that has just started everything at once takes seconds.
_TIMEOUT_S: Final = 30.0

# Number of the trial as it is below: what another one found out is not remembered.
_TRIAL: Final = 7

# It refuses a version 2 tree with controllers beside version 1, and one without may have some at any time: the kernel
# moves a controller there when its version 1 tree is unmounted.
_REFUSES_HYBRID: Final = "crun"
_REFUSES_HYBRID_BEFORE: Final = "1.9"

# All mounts become shared, which those are already that propagate, so that only the namespace itself is new.
_APART: Final = ("unshare", "-m", "--propagation", "shared")
_WITHOUT_TREE: Final = 'mount --make-private "$1" && umount "$2" && shift 2 && exec "$@"'

# Below the tree crun makes its groups nevertheless, as directories of what is there then. systemd has that read-only.
_WITH_PLACE: Final = _WITHOUT_TREE.replace("&& shift", '&& mount -t tmpfs none "$2" && shift')


@dataclass(frozen=True, slots=True)
class Runtime:
    """An OCI runtime of this host."""

    name: str
    path: str
    version: str
    usable: bool
    reason: str = ""  # why not
    vulnerabilities: tuple[str, ...] = ()  # known of this version
    undecided: bool = False  # it did not answer in time, which says nothing of the next trial
    creates_by: tuple[str, ...] = ()  # the words before its path when it is to make a container
    features: str = ""  # the spec's features structure, JSON; empty: it tells none


@dataclass(frozen=True, slots=True)
class Runtimes:
    """All of them, and which one is used for containers that ask for none; empty: none works."""

    found: tuple[Runtime, ...]
    default: str

    @property
    def names(self) -> tuple[str, ...]:
        """What a container may ask for."""
        return (*(runtime.name for runtime in self.found), *ALIASES)

    def choose(self, name: str) -> Runtime:
        """Return the runtime for a container that asks for ``name``, empty for the default.

        Raises:
            InvalidArgumentError: there is none of that name, or it does not work here; in Docker's words.
        """
        wanted = self.default if not name or name in ALIASES else name
        for runtime in self.found:
            if runtime.name == wanted:
                if runtime.usable:
                    return runtime
                raise InvalidArgumentError(f"runtime {name} cannot be used on this host: {runtime.reason}")
        if not name or name in ALIASES:
            reasons = "; ".join(f"{runtime.name}: {runtime.reason}" for runtime in self.found) or "none is installed"
            raise InvalidArgumentError(f"no OCI runtime can be used on this host: {reasons}")
        raise InvalidArgumentError(f"unknown or invalid runtime name: {name}")

    def choose_to_stay(self) -> Runtime:
        """Return the runtime for what is called and stays as long as the container's process.

        It should not have a mount namespace of its own all the while, where there is another one that works. Raises
        InvalidArgumentError as ``choose``.
        """
        others = (runtime for runtime in self.found if runtime.usable and not runtime.creates_by)
        runtime = self.choose("")
        return next(others, runtime) if runtime.creates_by else runtime


def named_paths(entries: Sequence[str]) -> dict[str, str]:
    """Return what is configured, ``name=path`` each, by name. Raises InvalidArgumentError for anything else."""
    found = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals or not name or not path or "/" in name:
            raise InvalidArgumentError(f"runtimes: {entry!r} is not name=path")
        found[name] = path
    return found


def find_runtimes(
    host: HostFacts,
    *,
    scratch: Path,
    cache: Path,
    cgroups: CgroupNames,
    preferred: str = "auto",
    configured: Mapping[str, str] | None = None,
    places: Sequence[str] = PLACES,
) -> Runtimes:
    """Look for runtimes and try each; blocks for some 50 ms, or not at all where ``cache`` knows the answer.

    ``configured`` has further ones by name; the usual ones are looked for on $PATH and in ``places``, and of several
    the newest that works is taken. ``scratch`` is a directory for bundles; ``cache`` is a file that says
    what was found out about each binary, by its size and age, on this kernel with this cgroup layout.

    Raises:
        InvalidArgumentError: ``preferred`` is not ``auto`` and there is none of that name.
    """
    candidates = _candidates(configured or {}, places)
    known = _read_cache(cache)
    keys = {path: _key(path, host, cgroups.driver) for _, path in candidates}

    def look(candidate: tuple[str, str]) -> Runtime:
        name, path = candidate
        cached = known.get(keys[path])
        if cached is not None:
            return replace(cached, name=name, path=path, vulnerabilities=(), creates_by=tuple(cached.creates_by))
        return _try(name, path, scratch, cgroups, host)

    with ThreadPoolExecutor(max(1, len(candidates))) as threads:
        tried = tuple(threads.map(look, candidates))
    fresh = {keys[runtime.path]: runtime for runtime in tried if not runtime.undecided}
    found = tuple(_with_vulnerabilities(runtime) for runtime in _best_of_each(tried))
    if fresh.keys() - known.keys():
        _write_cache(cache, fresh)
    default = _default(found, preferred)
    for runtime in found:
        log.info(
            "runtime found", runtime=runtime.name, path=runtime.path, version=runtime.version, usable=runtime.usable,
            reason=runtime.reason, vulnerabilities=runtime.vulnerabilities,
        )  # fmt: skip
    return Runtimes(found, default)


def _candidates(configured: Mapping[str, str], places: Sequence[str]) -> list[tuple[str, str]]:
    """Return names and paths: each of the preferred ones wherever it is installed, and what is configured."""
    found = [(name, path) for name in PREFERRED if name not in configured for path in _everywhere(name, places)]
    return found + [(name, shutil.which(path) or path) for name, path in configured.items()]


def _everywhere(name: str, places: Sequence[str]) -> list[str]:
    """Return the files of that name on $PATH and in ``places``, each once, in their order."""
    directories = [*os.environ.get("PATH", "").split(os.pathsep), *places]
    paths = filter(None, (shutil.which(name, path=directory) for directory in directories if directory))
    return list({os.path.realpath(path): path for path in reversed(list(paths))}.values())[::-1]


def _best_of_each(tried: Sequence[Runtime]) -> list[Runtime]:
    """Return one per name: of those that work here the newest, and of equals the first on the way."""
    best: dict[str, Runtime] = {}
    for runtime in tried:
        other = best.get(runtime.name)
        if other is None or _rank(runtime) > _rank(other):
            best[runtime.name] = runtime
    return list(best.values())


def _rank(runtime: Runtime) -> tuple[bool, Version]:
    return runtime.usable, parse_version(runtime.version)


def _with_vulnerabilities(runtime: Runtime) -> Runtime:
    def said() -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return _output(runtime.path, "--version")
        return ""

    known = vulnerabilities(runtime.name, runtime.version, said) if runtime.version else []
    return replace(runtime, vulnerabilities=tuple(known))


def _default(found: Sequence[Runtime], preferred: str) -> str:
    if preferred not in ("", "auto"):
        if preferred not in (runtime.name for runtime in found):
            raise InvalidArgumentError(f"unknown or invalid runtime name: {preferred}")
        return preferred
    usable = [runtime.name for runtime in found if runtime.usable]
    return next((name for name in (*PREFERRED, *usable) if name in usable), "")


def _apart(host: HostFacts) -> list[tuple[str, ...]]:
    """Return what starts a program where there is no version 2 tree beside version 1, the cheapest first."""
    ways: list[tuple[str, ...]] = []
    if host.layout is CgroupLayout.HYBRID:
        trees = [str(tree.path) for tree in host.trees if tree.version == 2]
        where = os.pathsep.join([os.environ.get("PATH", ""), *PLACES])
        # One small static program for all of it takes 2 ms; four others take three times as much.
        for program, shell in (("busybox", ("busybox", "sh")), ("unshare", ("sh",))):
            if found := shutil.which(program, path=where):
                apart = (found, *_APART) if program == "busybox" else (found, *_APART[1:])
                for script in (_WITHOUT_TREE, _WITH_PLACE):
                    ways += [(*apart, *shell, "-c", script, "sh", str(Path(tree).parent), tree) for tree in trees]
    return ways


def _ways(name: str, version: str, host: HostFacts) -> list[tuple[str, ...]]:
    """Return what a runtime may have to be called by to create a container, empty if nothing, the best first."""
    if name == _REFUSES_HYBRID and parse_version(version) < parse_version(_REFUSES_HYBRID_BEFORE):
        return [*_apart(host), ()]
    return [(), *_apart(host)]


def _try(name: str, path: str, scratch: Path, cgroups: CgroupNames, host: HostFacts) -> Runtime:
    version = ""
    try:
        version = _version(path)
        if not version:
            return Runtime(name, path, "", usable=False, reason=f"{path} cannot be executed")
        reasons = {}
        for way in _ways(name, version, host):
            reasons[way] = _probe(way, path, scratch, cgroups)
            if not reasons[way]:
                told = _features(path)
                return Runtime(name, path, version, usable=True, creates_by=way, features=told)
        reason = reasons[()]
    except OSError as error:
        reason = f"trial failed: {error}"
    except subprocess.TimeoutExpired:
        reason = f"trial took longer than {_TIMEOUT_S:g} s"
        return Runtime(name, path, version, usable=False, reason=reason, undecided=True)
    return Runtime(name, path, version, usable=False, reason=reason)


def _version(path: str) -> str:
    """Return the number that ``--version`` starts with, such as ``1.8.1``; empty if it cannot be run.

    Raises:
        TimeoutExpired: it does not answer.
    """
    return _output(path, "--version").partition("\n")[0].strip().rpartition(" ")[2]


def _features(path: str) -> str:
    """Return the spec's features structure, JSON without spaces; empty if the runtime tells none, or not in time."""
    with contextlib.suppress(subprocess.TimeoutExpired, ValueError, RecursionError):
        structure = json.loads(_output(path, "features"))
        if isinstance(structure, dict):
            return json.dumps(structure, separators=(",", ":"))
    return ""


def _output(path: str, question: str) -> str:
    """Return what a runtime prints of itself; empty if it cannot be run, or fails. Raises TimeoutExpired."""
    try:
        done = subprocess.run(
            [path, question], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except OSError:
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _probe(way: Sequence[str], path: str, scratch: Path, cgroups: CgroupNames) -> str:
    """Create a container and delete it again; return what was wrong, empty if nothing."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="probe-") as name, _cgroup_removed(cgroups.engine, name):
        bundle = Path(name)
        (bundle / "rootfs/dev").mkdir(parents=True)  # crun makes devices in it, and does not make it
        container_id = bundle.name
        cgroup = cgroups.path(container_id)
        (bundle / "config.json").write_text(json.dumps(_probe_config(path, oci_path(cgroup))))
        call = [path, "--root", str(bundle / "state")]
        if is_scope(cgroup):
            call.append(SYSTEMD_OPTION)
        pid_file, env = bundle / "pid", runtime_environ(os.environ)
        with (bundle / "errors").open("w+b") as errors:
            # The container's first process keeps what it inherits: a pipe would not end with the runtime.
            done = subprocess.run(
                [*way, *call, "create", "--bundle", name, "--pid-file", str(pid_file), container_id],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=_TIMEOUT_S,
                check=False,
                env=env,
                umask=CONTAINER_UMASK,  # the cgroup that holds all others is made here
            )
            errors.seek(0)
            message = errors.read().decode(errors="replace")
        if done.returncode == 0:
            _kill(int(pid_file.read_text()))  # runc waits 100 ms between looks at a process that it kills itself
        delete = [*call, "delete", "--force", container_id]
        subprocess.run(delete, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False, env=env)
    return "" if done.returncode == 0 else _last_line(message) or f"exit code {done.returncode}"


def _probe_config(path: str, cgroup: str) -> dict[str, object]:
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": False},
        # Created and never started: it need only be executable, and the runtime itself is.
        "process": {"args": ["/probe"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": []},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/probe", "type": "bind", "source": path, "options": ["bind", "ro"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 16}},
        },
    }


@contextlib.contextmanager
def _cgroup_removed(parent: str, bundle: str) -> Iterator[None]:
    """Remove afterwards what a runtime that failed half-way left of its cgroup."""
    try:
        yield
    finally:
        name = Path(bundle).name
        # Unlike a glob, a walk bears that another trial's groups go at the same time.
        for directory, groups, _ in os.walk("/sys/fs/cgroup"):
            if name in groups and Path(directory).name == parent:
                with contextlib.suppress(OSError):
                    (Path(directory) / name).rmdir()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process = open_process(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _TIMEOUT_S)
        finally:
            os.close(process)


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return ""
    # runc: time="…" level=error msg="…"
    _, separator, quoted = lines[-1].partition('level=error msg="')
    return quoted.rstrip('"') if separator else lines[-1]


def _key(path: str, host: HostFacts, driver: CgroupDriver) -> str:
    """Return a digest of everything that the answer depends on."""
    trees = [(str(tree.path), tree.version, sorted(tree.controllers)) for tree in host.trees]
    try:
        status = Path(path).stat()
    except OSError:
        return f"missing {path}"
    made = (path, status.st_size, status.st_mtime_ns)
    facts = (_TRIAL, made, host.kernel, host.capabilities, sorted(trees), _apart(host), driver.value)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _read_cache(cache: Path) -> dict[str, Runtime]:
    try:
        entries = json.loads(cache.read_text())
        return {key: Runtime(**entry) for key, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # it saves time, nothing else


def _write_cache(cache: Path, entries: Mapping[str, Runtime]) -> None:
    temporary = cache.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps({key: asdict(runtime) for key, runtime in entries.items()}))
        temporary.rename(cache)
    except OSError as error:
        log.warning("runtime cache not written", path=str(cache), error=str(error))
