"""Repositories as sources: how people write them, and the operation that fetches one.

Reference: git-clone(1), "GIT URLS"; the Docker documentation, "Git repositories" of build contexts.
"""

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from buildd.llb.ops import Edge, Metadata, Node, SourceOp
from sampan.errors import InvalidArgumentError

_SCP: Final = re.compile(r"([A-Za-z0-9_.-]+@)([A-Za-z0-9_.-]+):(?!//)([^?#]*)(?:\?([^#]*))?(?:#(.*))?")
_SCHEMES: Final = ("git", "ssh", "http", "https")
_FORGE: Final = "github.com/"  # the one name that the docker command takes for a repository without a scheme
_TRUTH: Final = {"": True, "1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


@dataclass(frozen=True, slots=True)
class GitReference:
    """A repository, and what of it is meant."""

    remote: str  # with its scheme, or user@host:path
    ref: str = ""  # branch, tag or commit; empty: the remote's HEAD
    directory: str = ""  # a part of the tree
    checksum: str = ""  # the commit that ``ref`` must be
    keep_git_dir: bool | None = None
    submodules: bool = True

    @property
    def over_ssh(self) -> bool:
        """Whether the client's SSH agent is needed."""
        return not self.remote.startswith(("git://", "http://", "https://"))


def parse_git_reference(text: str, *, bare_names: bool = False) -> GitReference | None:
    """Parse a repository's address; None if ``text`` is something else, such as a path or the URL of a file.

    ``bare_names`` takes names without a scheme, too, which elsewhere could be a path.

    Raises:
        InvalidArgumentError: a repository with parameters that are unknown, given twice or contradict each other.
    """
    if text.startswith(("./", "../", "/")):
        return None
    if text.startswith(_FORGE):
        text = f"https://{text}"
        if not bare_names:
            return None
        bare = True
    else:
        bare = False
    scp = _SCP.fullmatch(text)
    if scp and "://" not in text:
        return _with_parameters(f"{scp[1]}{scp[2]}:{scp[3]}", scp[4] or "", scp[5] or "")
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not parts.netloc:
        return None
    # A URL of these schemes is a file's, unless its path says otherwise.
    if parts.scheme in ("http", "https") and not parts.path.endswith(".git") and not bare:
        return None
    remote = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return _with_parameters(remote, parts.query, parts.fragment)


def _with_parameters(remote: str, query: str, fragment: str) -> GitReference:
    ref, _, directory = fragment.partition(":")
    found = GitReference(remote, ref, directory)
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in values:
            raise InvalidArgumentError(f'query "{name}" has multiple values')
        if not value and name not in ("submodules", "keep-git-dir"):
            raise InvalidArgumentError(f'query "{name}" has no value')
        values[name] = value
    found = _with_ref(found, values)
    if "subdir" in values:
        wanted = values.pop("subdir")
        if directory not in ("", wanted):
            raise InvalidArgumentError(f'subdir conflicts: "{directory}" vs "{wanted}"')
        found = replace(found, directory=wanted)
    for name in ("checksum", "commit"):
        if name in values:
            found = replace(found, checksum=values.pop(name))
    if "keep-git-dir" in values:
        found = replace(found, keep_git_dir=_truth("keep-git-dir", values.pop("keep-git-dir")))
    if "submodules" in values:
        found = replace(found, submodules=_truth("submodules", values.pop("submodules")))
    if values:
        raise InvalidArgumentError(f'unexpected query "{next(iter(values))}"')
    return replace(found, ref=found.ref or found.checksum)


def _with_ref(found: GitReference, values: dict[str, str]) -> GitReference:
    if "tag" in values and "branch" in values:
        raise InvalidArgumentError("branch conflicts with tag")
    for name, prefix in (("ref", ""), ("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name not in values:
            continue
        wanted = prefix + values.pop(name).removeprefix(prefix)
        if found.ref not in ("", wanted):
            raise InvalidArgumentError(f'ref conflicts: "{found.ref}" vs "{wanted}"')
        found = replace(found, ref=wanted)
    return found


def _truth(name: str, value: str) -> bool:
    if value.lower() not in _TRUTH:
        raise InvalidArgumentError(f'invalid {name} value: "{value}"')
    return _TRUTH[value.lower()]


def clone(reference: GitReference, metadata: Metadata) -> Edge:
    """Return the files of a repository. Tokens for it are the client's secrets of these names."""
    address = reference.remote.partition("://")[2] or reference.remote.replace(":", "/", 1)
    address = address.rpartition("@")[2] if "@" in address.split("/", 1)[0] else address
    part = f":{reference.directory}" if reference.directory else ""
    fragment = f"#{reference.ref}{part}" if reference.ref or part else ""
    attributes = {
        "git.fullurl": reference.remote,
        "git.authheadersecret": "GIT_AUTH_HEADER",
        "git.authtokensecret": "GIT_AUTH_TOKEN",
    }
    if reference.over_ssh:
        attributes["git.mountsshsock"] = "default"
    if reference.keep_git_dir:
        attributes["git.keepgitdir"] = "true"
    if reference.checksum:
        attributes["git.checksum"] = reference.checksum
    if not reference.submodules:
        attributes["git.skipsubmodules"] = "true"
    return Node(SourceOp(f"git://{address}{fragment}", attributes), (), None, metadata).output()
