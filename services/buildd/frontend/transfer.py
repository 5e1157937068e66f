"""COPY, ADD and WORKDIR, as operations of a graph.

Reference: the Dockerfile reference, "COPY", "ADD", "WORKDIR".
"""

import posixpath
import re
import uuid
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from buildd.frontend.checks import COPY_IGNORED_FILE, WORKDIR_RELATIVE_PATH
from buildd.frontend.step import Step
from buildd.llb.git import GitReference, clone, parse_git_reference
from buildd.llb.graph import Change, change_files, download
from buildd.llb.ops import (
    Copy,
    Edge,
    MakeDirectory,
    MakeFile,
    MergeOp,
    Metadata,
    Node,
    Owner,
    UserName,
)
from sampan.build.progress import ProgressGroup
from sampan.dockerfile.instructions import Transfer, Words
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.oci.ids import MAX_FILE_ID, id_number

_MAX_SOURCES: Final = 10_000
_MAX_MODE: Final = 0o7777
_NUMERIC: Final = re.compile(r"[0-9]+")
_MODE_TEXT: Final = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")
_UNNAMED: Final = "__unnamed__"
_SHA256_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class _Asked:
    """A COPY or ADD with its variables put in."""

    step: Step
    instruction: Transfer
    sources: tuple[str, ...]
    written_destination: str
    like: Copy  # what all its copies have in common
    checksum: str
    main: Edge | None  # where paths are

    @property
    def adds(self) -> bool:
        """Whether it is an ADD: URLs, repositories and archives."""
        return self.step.keyword == "ADD"


def transfer(step: Step, instruction: Transfer, source: Edge | None) -> None:
    """Apply COPY or ADD; ``source`` is what ``--from`` names, or the build context.

    Raises:
        DockerfileError: it cannot be applied.
    """
    state = step.state
    chown, chmod = step.expand(instruction.chown), step.expand(instruction.chmod)
    mode, mode_text = _mode(step, chmod)
    destination = step.expand(instruction.destination)
    like = Copy(
        src="",
        dest=state.path(destination),
        owner=_owner(step, chown),
        mode=mode,
        mode_text=mode_text,
        create_dest_path=True,
        timestamp_ns=-1 if state.epoch_s is None else state.epoch_s * 10**9,
        exclude_patterns=instruction.excludes,
    )
    if len(instruction.sources) > _MAX_SOURCES:
        raise step.fail(f"{step.keyword} has {len(instruction.sources)} sources, the most is {_MAX_SOURCES}")
    sources = tuple(step.expand(each) for each in instruction.sources)
    asked = _Asked(step, instruction, sources, destination, like, step.expand(instruction.checksum), source)
    if asked.checksum and len(sources) != 1:
        raise step.fail("checksum can't be specified for multiple sources")
    said = step.shown(instruction.statement.original, raw=False)
    group = step.metadata(said)
    changes = [_change(asked, each, group) for each in sources]
    changes += [_document(asked, index) for index in range(len(instruction.documents))]
    if instruction.link and not chmod:
        _link(step, changes, group, said)
    else:
        state.edge = change_files(state.edge, changes, group, state.platform)
    state.note(_history(asked, chown, chmod), layer=True)


def _link(step: Step, changes: list[Change], said: Metadata, text: str) -> None:
    """Put the files on an empty tree, and that on top of the stage: they stay what they are if the stage changes."""
    state = step.state
    group = uuid.uuid4().hex
    place = said.name.removesuffix(text)
    alone = replace(said, progress_group=ProgressGroup(group, said.name, weak=True))
    added = change_files(None, changes, alone, state.platform)
    if state.edge is None:
        state.edge = added
        return
    merged = replace(said, name=f"{place}LINK {text}", progress_group=ProgressGroup(group, said.name))
    state.edge = Node(MergeOp((0, 1)), (state.edge, added), state.platform, merged).output()


def _history(asked: _Asked, chown: str, chmod: str) -> str:
    flags = []
    if asked.instruction.parents:
        flags.append("--parents")
    flags += [f"--{name}={value}" for name, value in (("chown", chown), ("chmod", chmod)) if value]
    documents = [f"<<{document.name}" for document in asked.instruction.documents]
    words = (asked.step.keyword, *flags, *asked.sources, *documents, asked.written_destination)
    return f"{' '.join(words)} # buildkit"


def _change(asked: _Asked, source: str, said: Metadata) -> Change:
    """Return how one source is copied."""
    try:
        repository = parse_git_reference(source)
    except InvalidArgumentError as error:
        raise asked.step.fail(str(error)) from error
    if repository is not None:
        return _repository(asked, repository, said)
    if source.startswith(("http://", "https://")):
        return _download(asked, source, said)
    if asked.checksum:
        raise asked.step.fail("checksum requires HTTP(S) or Git sources")
    return _path(asked, source)


def _repository(asked: _Asked, repository: GitReference, said: Metadata) -> Change:
    step = asked.step
    if not asked.adds:
        raise step.fail("source can't be a git ref for COPY")
    keep = asked.instruction.keep_git_dir
    if keep is not None and repository.keep_git_dir not in (None, keep):
        raise step.fail("inconsistent keep-git-dir configuration")
    if asked.checksum and repository.checksum not in ("", asked.checksum):
        raise step.fail(f'checksum mismatch "{asked.checksum}" != "{repository.checksum}"')
    repository = replace(
        repository,
        keep_git_dir=repository.keep_git_dir if keep is None else keep,
        checksum=repository.checksum or asked.checksum,
    )
    return Change(replace(asked.like, src="/"), clone(repository, said))


def _download(asked: _Asked, url: str, said: Metadata) -> Change:
    step = asked.step
    if not asked.adds:
        raise step.fail("source can't be a URL for COPY")
    if asked.checksum:
        algorithm, colon, value = asked.checksum.partition(":")
        if not (algorithm and colon and value):
            raise step.fail("invalid checksum digest format")
        if algorithm != "sha256":
            raise step.fail("unsupported digest algorithm")
        if len(value) != _SHA256_DIGITS:
            raise step.fail("invalid checksum digest length")
        try:
            Digest.parse(asked.checksum)
        except InvalidArgumentError as error:
            raise step.fail("invalid checksum digest format") from error
    try:
        name = posixpath.basename(urlsplit(url).path)
    except ValueError as error:
        raise step.fail(f"invalid URL {url}: {error}") from error
    # The name goes into a path of the result.
    name = _UNNAMED if name in ("", ".", "..") else name
    unpack = bool(asked.instruction.unpack)  # what comes from elsewhere is unpacked on demand alone
    return Change(replace(asked.like, src=f"/{name}", attempt_unpack=unpack), download(url, name, said, asked.checksum))


def _path(asked: _Asked, source: str) -> Change:
    instruction, trace = asked.instruction, asked.step.trace
    path = _absolute(source)
    patterns: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    if not instruction.from_stage:
        trace.context_paths.add(path)
        _check_ignored(asked, source)
    if instruction.parents:
        # "/./" says where the part of the path begins that is kept.
        parent, pivot, kept = source.partition("/./")
        parent, kept = (parent, kept) if pivot else ("/", source)
        pattern = _absolute(kept).removeprefix("/")
        patterns = (pattern,) if pattern else ()
        path = _absolute(parent)
        if pattern and not _has_wildcards(parent) and not _has_wildcards(kept):
            required = (_absolute(f"{parent}/{kept}"),)
    unpack = asked.adds if instruction.unpack is None else instruction.unpack
    copy = replace(
        asked.like,
        src=path,
        follow_symlink=True,
        dir_copy_contents=True,
        attempt_unpack=unpack,
        allow_wildcard=True,
        allow_empty_wildcard=True,
        include_patterns=patterns,
        required_paths=required,
    )
    return Change(copy, asked.main)


def _document(asked: _Asked, index: int) -> Change:
    """Return how a here-document becomes a file."""
    document, state = asked.instruction.documents[index], asked.step.state
    content = asked.step.expand(document.content, document=True) if document.expand else document.content
    make = Change(MakeFile(f"/{document.name}", 0o644, content.encode()))
    said = Metadata(name="[internal] preparing inline document")
    return Change(replace(asked.like, src=f"/{document.name}"), change_files(None, [make], said, state.platform))


def _absolute(path: str) -> str:
    """Return a path inside of a tree: what leads out of it ends at its root."""
    return "/" + posixpath.normpath(posixpath.join("/", path)).lstrip("/")


def _has_wildcards(path: str) -> bool:
    return re.search(r"(?<!\\)(?:\\\\)*[*?\[]", path) is not None


def _check_ignored(asked: _Asked, source: str) -> None:
    ignore = asked.step.build.ignore
    if ignore is None or ignore.has_exceptions:
        return
    path = posixpath.normpath(source).lstrip("/")
    if path not in ("", ".") and ignore.excludes(path):
        verb = "Add" if asked.adds else "Copy"
        asked.step.report(COPY_IGNORED_FILE, f'Attempting to {verb} file "{path}" that is excluded by .dockerignore')


def _mode(step: Step, chmod: str) -> tuple[int, str]:
    """Return ``--chmod`` as bits, or as the text that says how to change them."""
    if not chmod:
        return -1, ""
    if _NUMERIC.match(chmod):
        octal = chmod.isascii() and set(chmod) <= set("01234567") and len(chmod) < 12
        if not octal or int(chmod, 8) > _MAX_MODE:
            raise step.fail(f"invalid chmod parameter: '{chmod}'. it should be octal string and between 0 and 07777")
        return int(chmod, 8), ""
    if not _MODE_TEXT.fullmatch(chmod):
        raise step.fail(f"invalid chmod parameter: '{chmod}'. it should be octal or symbolic, such as u=rwX,go=rX")
    return -1, chmod


def _owner(step: Step, chown: str) -> Owner | None:
    if not chown:
        return None
    user, colon, group = chown.partition(":")
    if not user or (colon and not group):
        raise step.fail(f"invalid chown parameter: '{chown}'. it should be user[:group]")
    return Owner(_user(step, user), _user(step, group) if group else None)


def _user(step: Step, text: str) -> UserName:
    number = id_number(text)
    if number is None:
        return UserName(text)
    if not 0 <= number <= MAX_FILE_ID:
        raise step.fail(f"invalid chown parameter: {text} is no user or group ID")
    return UserName(number=number)


def work_directory(step: Step, instruction: Words) -> None:
    """Apply WORKDIR: the config's directory, and the directory itself.

    Raises:
        DockerfileError: it cannot be applied.
    """
    state = step.state
    written = step.expand(instruction.words[0])
    if not state.work_dir_set and not written.startswith("/"):
        step.report(
            WORKDIR_RELATIVE_PATH,
            f'Relative workdir "{written}" can have unexpected results if the base image changes',
        )
    state.work_dir_set = True
    # An absolute path stays in the config as it is written.
    path = written if written.startswith("/") else _absolute(posixpath.join(state.working_directory, written))
    state.run = replace(state.run, working_dir=path)
    if path != "/":
        make = MakeDirectory(
            _absolute(path),
            0o755,
            make_parents=True,
            owner=_owner(step, state.run.user.rstrip(":")),
            timestamp_ns=-1 if state.epoch_s is None else state.epoch_s * 10**9,
        )
        said = step.metadata(step.shown(instruction.statement.original, raw=False))
        state.edge = change_files(state.edge, [Change(make)], said, state.platform)
    state.note(f"WORKDIR {path}", layer=path != "/")
