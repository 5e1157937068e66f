"""Seccomp in a bundle: the default profile, a user's own, or none; and filters that are compiled already."""

import base64
import contextlib
import json
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from runtimed.oci.security.capabilities import KNOWN
from runtimed.oci.security.seccomp_default import ALWAYS, ARCHITECTURES, ON_MACHINE, WITH_CAPABILITY
from sampan.errors import InvalidArgumentError
from sampan.sys.processes import has_x32_abi

_ALLOW: Final = "SCMP_ACT_ALLOW"
_ERRNO: Final = "SCMP_ACT_ERRNO"
_EPERM: Final = 1
_ENOSYS: Final = 38

# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: a clone with none of them makes an ordinary process or thread.
_CLONE_NAMESPACES: Final = 0x7E020000

_AF_VSOCK: Final = 40  # speaks to the hypervisor, around every network namespace

# Those that setarch(8) and 32-bit programs use: PER_LINUX, PER_LINUX32, each with UNAME26, and the query.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Docker's own names for architectures, which its profiles condition rules on.
_DOCKER_ARCHES: Final[dict[str, tuple[str, ...]]] = {
    "x86_64": ("amd64", "x86", "x32"),
    "aarch64": ("arm64", "arm"),
    "ppc64le": ("ppc64le",),
    "riscv64": ("riscv64",),
    "s390x": ("s390x", "s390"),
}

_X32: Final = "SCMP_ARCH_X32"

# How an argument of a call is compared: each has a number for the kernel, and another word is none.
_OPERATORS: Final = frozenset(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))

Rule = dict[str, object]


def default_profile(
    capabilities: Collection[str], machine: str | None = None, *, x32: bool | None = None
) -> dict[str, object]:
    """Return the OCI ``seccomp`` object for a container with ``capabilities`` on ``machine`` (``uname -m``).

    ``x32`` says whether the kernel has that ABI; None asks it. The runtime compiles the filter anew for each process,
    once per ABI, and where there is no x32 that is a fifth of an exec's time for calls that nobody can make: an ABI
    that a filter does not name is killed.
    """
    machine = machine or platform.machine()
    rules: list[Rule] = [_allow(*ALWAYS, *ON_MACHINE.get(machine, ()))]
    rules.append(_allow("socket", args=[{"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_NE"}]))
    rules += [
        _allow("personality", args=[{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]) for value in _PERSONALITIES
    ]
    extra = {name for capability in capabilities for name in WITH_CAPABILITY.get(capability, ())}
    if extra:
        rules.append(_allow(*sorted(extra)))
    if "clone" not in extra:
        flags = 1 if machine == "s390x" else 0  # there the stack comes first
        args: list[dict[str, object]] = [
            {"index": flags, "value": _CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        ]
        rules.append(_allow("clone", args=args))
        # Its flags are behind a pointer, which a filter cannot follow. ENOSYS sends libc back to clone.
        rules.append({"names": ["clone3"], "action": _ERRNO, "errnoRet": _ENOSYS})
    profile: dict[str, object] = {"defaultAction": _ERRNO, "defaultErrnoRet": _EPERM, "syscalls": rules}
    if machine in ARCHITECTURES:
        has_x32 = has_x32_abi() if x32 is None else x32
        profile["architectures"] = [name for name in ARCHITECTURES[machine] if has_x32 or name != _X32]
    return profile


def own_profile(text: str, capabilities: Collection[str], machine: str | None = None) -> dict[str, object] | None:
    """Return the OCI ``seccomp`` object of a profile in Docker's format, for these ``capabilities``.

    One with neither a default nor rules filters nothing, as with Docker, and is None.

    Raises:
        InvalidArgumentError: it is no JSON object, or a part of it has the wrong form.
    """
    machine = machine or platform.machine()
    try:
        given = json.loads(text)
        if given is None or not (given.get("defaultAction") or given.get("syscalls")):
            return None
        return _translate(given, capabilities, machine)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidArgumentError(f"Decoding seccomp profile failed: {error}") from error


def _translate(given: Mapping[str, object], capabilities: Collection[str], machine: str) -> dict[str, object]:
    if given.get("architectures") and given.get("archMap"):
        raise ValueError("both 'architectures' and 'archMap' are specified in the seccomp profile, use either one")
    kept = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata", "architectures")
    profile: dict[str, object] = {key: given[key] for key in kept if given.get(key) is not None}
    if not profile.get("defaultAction"):
        raise ValueError("the profile has no defaultAction")
    arch_map = _list(given, "archMap")
    if arch_map:
        native = ARCHITECTURES.get(machine, ("",))[0]
        names = [
            name
            for entry in arch_map
            if entry.get("architecture") == native
            for name in (native, *_strings(entry, "subArchitectures"))
        ]
        profile["architectures"] = names
    profile["syscalls"] = [rule for entry in _list(given, "syscalls") for rule in _rules(entry, capabilities, machine)]
    return profile


def _rules(entry: Mapping[str, object], capabilities: Collection[str], machine: str) -> list[Rule]:
    if not _applies(entry, capabilities, machine):
        return []
    names = _strings(entry, "names")
    name = entry.get("name")
    if name and names:
        raise ValueError("'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'")
    rule: Rule = {"names": names or [name], "action": entry["action"]}
    for argument in _list(entry, "args"):
        if argument.get("op") not in _OPERATORS:
            raise ValueError(f"string {argument.get('op')} is not a valid operator for seccomp")
    rule |= {key: entry[key] for key in ("errnoRet", "args") if entry.get(key) is not None}
    return [rule]


def _applies(entry: Mapping[str, object], capabilities: Collection[str], machine: str) -> bool:
    arches = _DOCKER_ARCHES.get(machine, (machine,))
    wanted = _mapping(entry, "includes")
    unwanted = _mapping(entry, "excludes")
    wanted_caps = _strings(wanted, "caps")
    unknown = [name for name in (*wanted_caps, *_strings(unwanted, "caps")) if name not in KNOWN]
    if unknown:
        raise ValueError(f"unknown capability {unknown[0]!r}")
    wanted_arches = _strings(wanted, "arches")
    if wanted_arches and not set(wanted_arches) & set(arches):
        return False
    if not set(wanted_caps) <= set(capabilities):
        return False
    if _kernel_is_older_than(wanted.get("minKernel")):
        return False
    newest = unwanted.get("minKernel")
    if newest and not _kernel_is_older_than(newest):
        return False
    return not (set(_strings(unwanted, "arches")) & set(arches) or set(_strings(unwanted, "caps")) & set(capabilities))


def _kernel_is_older_than(version: object) -> bool:
    if not version:
        return False
    release = platform.release().split(".")[:2]
    here = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in release)
    return here < tuple(int(part) for part in str(version).split(".")[:2])


def _allow(*names: str, args: list[dict[str, object]] | None = None) -> Rule:
    rule: Rule = {"names": list(names), "action": _ALLOW}
    if args:
        rule["args"] = args
    return rule


def _list(given: Mapping[str, object], key: str) -> list[dict[str, object]]:
    value = given.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{key!r} is not a list of objects")
    return value


def _strings(given: Mapping[str, object], key: str) -> list[str]:
    value = given.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key!r} is not a list of strings")
    return value


def _mapping(given: Mapping[str, object], key: str) -> dict[str, object]:
    value = given.get(key) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{key!r} is not an object")
    return value


_ANNOTATION: Final = "run.oci.seccomp_bpf_data"
_LEFT: Final = "seccomp.bpf"  # in a container's state

# Rules differ by capabilities and by profiles of users' own. A filter is some 6 KB, and so are its rules.
_KEPT: Final = 32
_MOST_BYTES: Final = 32767 * 8  # a filter has that many instructions, of eight bytes


class CompiledFilters:
    """Filters as a runtime has compiled them: the same rules make the same filter for each container.

    crun spends a third of its time for a container on having libseccomp make some kilobytes of BPF of the rules. It
    leaves them in its state directory, for execs, and takes them ready-made from an annotation instead of the rules
    (crun(1), ``run.oci.seccomp_bpf_data``). A runtime that does not leave them is never given any; one that does not
    know the annotation any more goes by the rules, which are always there as well.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}  # by runtime and rules, the oldest first

    def put_in(self, runtime: str, config: dict[str, Any]) -> str:
        """Have a container's configuration say what its filter is, if that is known.

        Returns:
            The rules, for ``learn``, if it is not known yet; else nothing.
        """
        rules = config.get("linux", {}).get("seccomp")
        annotations: Mapping[str, str] = config.get("annotations", {})
        # Who is told of calls by a socket, or has brought a filter along, has one that is not of the rules alone.
        if not rules or "listenerPath" in rules or any(name.startswith("run.oci.seccomp") for name in annotations):
            return ""
        text = json.dumps(rules, sort_keys=True)
        if (known := self._known.get((runtime, text))) is None:
            return text
        config["annotations"] = {**annotations, _ANNOTATION: known}
        return ""

    def learn(self, runtime: str, rules: str, state: Path) -> None:
        """Keep what the runtime has compiled for a container that it has made, whose ``state`` directory this is.

        Blocks. Nothing happens if it has left nothing.
        """
        with contextlib.suppress(OSError):
            compiled = (state / _LEFT).read_bytes()
            if compiled and len(compiled) % 8 == 0 and len(compiled) <= _MOST_BYTES:
                self._known[runtime, rules] = base64.b64encode(compiled).decode()
                if len(self._known) > _KEPT:
                    del self._known[next(iter(self._known))]
