"""A container's security context: users, capabilities, profiles."""

import os
import stat
from pathlib import Path
from typing import Final

from crid.containers.model import namespaces_of
from crid.model.config import ContainerConfig
from crid.model.security import (
    ContainerSecurity,
    NamespaceMode,
    NamespaceOption,
    ProfileType,
    SecurityProfile,
    SELinuxOption,
)
from crid.sandboxes.check import check_profile
from crid.sandboxes.model import Sandbox
from sampan.errors import InvalidArgumentError
from sampan.log import log
from sampan.resource import container_spec as spec

_MAX_ID: Final = (1 << 32) - 2
_MAX_PROFILE_BYTES: Final = 4 << 20
_SELINUX: Final = Path("/sys/fs/selinux/enforce")

_DEFAULT: Final = SecurityProfile()
_UNCONFINED: Final = SecurityProfile(ProfileType.Unconfined)

# How the deprecated fields spell profiles.
_OLD_SPELLINGS: Final = {"runtime/default": _DEFAULT, "docker/default": _DEFAULT, "unconfined": _UNCONFINED}
_LOCALHOST: Final = "localhost/"


def check_security(sandbox: Sandbox, config: ContainerConfig) -> None:
    """Raise InvalidArgumentError for a security context that cannot be meant, or does not fit the pod."""
    security = config.linux.security_context
    if security.privileged and not sandbox.config.linux.security_context.privileged:
        raise InvalidArgumentError(
            "security_context.privileged: the pod sandbox was not made for privileged containers"
        )
    if security.run_as_user is not None and security.run_as_username:
        raise InvalidArgumentError("security_context has run_as_user and run_as_username: one of them is meant")
    if security.run_as_group is not None and security.run_as_user is None and not security.run_as_username:
        raise InvalidArgumentError("security_context.run_as_group needs a user")
    given = (security.run_as_user, security.run_as_group)
    for number in (*(each.value for each in given if each is not None), *security.supplemental_groups):
        if not 0 <= number <= _MAX_ID:
            raise InvalidArgumentError(f"security_context has the ID {number}: 0 to {_MAX_ID}")
    check_profile(security.seccomp, "security_context.seccomp")
    check_profile(security.apparmor, "security_context.apparmor")
    _check_namespaces(sandbox, namespaces_of(sandbox, config))


def _check_namespaces(sandbox: Sandbox, options: NamespaceOption) -> None:
    for name in ("network", "ipc"):
        if getattr(options, name) is not getattr(sandbox.namespaces, name):
            raise InvalidArgumentError(f"namespace_options.{name} is not that of the pod sandbox")
    if (options.pid is NamespaceMode.TARGET) != bool(options.target_id):
        raise InvalidArgumentError("namespace_options.target_id goes with pid TARGET, and with nothing else")
    if options.mappings != sandbox.namespaces.mappings:
        raise InvalidArgumentError("namespace_options.userns_options are not those of the pod sandbox")


def process_user(security: ContainerSecurity) -> str:
    """Return ``user[:group]``; empty: the image's."""
    user = security.run_as_username if security.run_as_user is None else str(security.run_as_user.value)
    return f"{user}:{security.run_as_group.value}" if security.run_as_group is not None else user


def security_of(config: ContainerConfig) -> spec.Security:
    """Return what the container may do to the host. Raises InvalidArgumentError."""
    security = config.linux.security_context
    options = [*_labels(security.selinux_options)]
    if security.no_new_privs:
        options.append("no-new-privileges")
    if not security.privileged:  # which has neither
        options += _seccomp(security)
        options += _apparmor(security)
    own_paths = bool(security.masked_paths or security.readonly_paths)
    capabilities = security.capabilities
    return spec.Security(
        privileged=security.privileged,
        cap_add=capabilities.add_capabilities,
        cap_drop=capabilities.drop_capabilities,
        cap_add_ambient=capabilities.add_ambient_capabilities,
        read_only_root=security.readonly_rootfs,
        options=tuple(options),
        masked_paths=security.masked_paths,
        readonly_paths=security.readonly_paths,
        own_paths=own_paths and not security.privileged,
    )


def _seccomp(security: ContainerSecurity) -> list[str]:
    profile = security.seccomp or _old(security.seccomp_profile_path, "seccomp_profile_path") or _UNCONFINED
    match profile.profile_type:
        case ProfileType.RuntimeDefault:
            return []
        case ProfileType.Unconfined:
            return ["seccomp=unconfined"]
    path = Path(profile.localhost_ref)
    if not path.is_absolute() or "\0" in profile.localhost_ref:
        raise InvalidArgumentError(f"seccomp: localhost_ref is {profile.localhost_ref!r}: expected an absolute path")
    try:
        return [f"seccomp={_read_profile(path).decode()}"]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"seccomp: profile {path} cannot be read: {error}") from None


def _read_profile(path: Path) -> bytes:
    """Return a profile; blocks. Raises OSError; InvalidArgumentError: it is no file, or too long."""
    # Opening a pipe waits for who writes to it, unless it is opened so.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidArgumentError(f"seccomp: {path} is not a regular file")
        content = file.read(_MAX_PROFILE_BYTES + 1)
    if len(content) > _MAX_PROFILE_BYTES:
        raise InvalidArgumentError(f"seccomp: {path} is longer than {_MAX_PROFILE_BYTES >> 20} MiB: no profile")
    return content


def _apparmor(security: ContainerSecurity) -> list[str]:
    profile = security.apparmor or _old(security.apparmor_profile, "apparmor_profile") or _DEFAULT
    match profile.profile_type:
        case ProfileType.RuntimeDefault:
            return []
        case ProfileType.Unconfined:
            return ["apparmor=unconfined"]
    return [f"apparmor={profile.localhost_ref.removeprefix(_LOCALHOST)}"]


def _old(text: str, field: str) -> SecurityProfile | None:
    """Read a profile as older kubelets say it; None if they say nothing."""
    if not text:
        return None
    if text.startswith(_LOCALHOST) and text != _LOCALHOST:
        return SecurityProfile(ProfileType.Localhost, text.removeprefix(_LOCALHOST))
    if text not in _OLD_SPELLINGS:
        raise InvalidArgumentError(f"security_context.{field} is {text!r}: runtime/default, unconfined or localhost/…")
    return _OLD_SPELLINGS[text]


def _labels(label: SELinuxOption | None) -> list[str]:
    if label is None:
        return []
    parts = [(name, getattr(label, name)) for name in ("user", "role", "type", "level")]
    said = [f"label={name}:{value}" for name, value in parts if value]
    if said and not _SELINUX.exists():
        # Pods of whole clusters name labels for those of their machines that have SELinux.
        log.warning("a label of a container has no effect: this machine has no SELinux", label=" ".join(said))
        return []
    return said
