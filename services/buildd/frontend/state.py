"""What a stage is at one point: its files so far, its image's config, and the variables that instructions see."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from buildd.llb.ops import Edge
from sampan.dockerfile.source import Lines
from sampan.errors import InvalidArgumentError
from sampan.oci.image_config import ConfigFile, History, RunConfig
from sampan.oci.platform import Platform

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL: Final = ("/bin/sh", "-c")
# Of all lines together: nobody takes a config of more than 8 MiB.
MAX_HISTORY_CHARACTERS: Final = 4 << 20
HISTORY_COMMENT: Final = "buildkit.dockerfile.v0"


@dataclass(frozen=True, slots=True)
class Argument:
    """An ARG as an outline shows it."""

    name: str
    value: str
    lines: Lines
    description: str = ""


@dataclass(slots=True)
class StageState:
    """One stage while its instructions are applied, one after another."""

    platform: Platform
    epoch_s: int | None = None
    edge: Edge | None = None  # None: nothing yet, as in scratch
    run: RunConfig = field(default_factory=RunConfig)  # but for its variables
    image_env: dict[str, str] = field(default_factory=dict)  # its variables
    base: ConfigFile | None = None  # the image at the bottom, as it came
    base_bytes: bytes = b""
    author: str = ""
    history: list[History] = field(default_factory=list)
    history_characters: int = 0  # of this Dockerfile's lines
    # What a step sees: ENV and ARG alike, the last one that was set wins.
    env: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str | None] = field(default_factory=dict)  # declared by ARG, also in the stages below
    outline: dict[str, Argument] = field(default_factory=dict)
    once: dict[str, Lines] = field(default_factory=dict)  # where CMD, ENTRYPOINT, HEALTHCHECK stand in this stage
    work_dir_set: bool = False  # by this Dockerfile, and not by an image alone
    _step_env: tuple[str, ...] | None = None  # the steps between two changes share it

    @classmethod
    def of_image(cls, config: ConfigFile | None, data: bytes, edge: Edge | None, platform: Platform) -> "StageState":
        """Return the state that a stage begins with; without a config the image is an empty one."""
        run = config.run if config else RunConfig(working_dir="/")
        state = cls(platform=platform, edge=edge, run=replace(run, on_build=()), base=config, base_bytes=data)
        if config:
            state.author = config.author
            state.history = list(config.history)
        state.image_env = dict(_pair(entry) for entry in run.env)
        if platform.os != "windows":
            state.image_env.setdefault("PATH", DEFAULT_PATH)
        state.env = dict(state.image_env)
        return state

    def fork(self) -> "StageState":
        """Return the state for a stage that begins from this one: variables and arguments go along."""
        return replace(
            self,
            run=replace(self.run, on_build=()),
            history=list(self.history),
            image_env=dict(self.image_env),
            env=dict(self.env),
            arguments=dict(self.arguments),
            outline={},
            once={},
        )

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs commands in shell form."""
        return self.run.shell or DEFAULT_SHELL

    @property
    def working_directory(self) -> str:
        """Where relative paths begin."""
        return posixpath.normpath(posixpath.join("/", self.run.working_dir))

    def set_env(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Set variables of the image and of the steps that follow; in the image one that is there keeps its place."""
        for name, value in pairs:
            self.image_env[name] = value
            self.set_step_variable(name, value)

    def set_step_variable(self, name: str, value: str) -> None:
        """Set a variable of the steps that follow; it is the last one then."""
        self.env.pop(name, None)
        self.env[name] = value
        self._step_env = None

    @property
    def step_env(self) -> tuple[str, ...]:
        """The environment of a RUN."""
        if self._step_env is None:
            self._step_env = tuple(f"{name}={value}" for name, value in self.env.items())
        return self._step_env

    def path(self, text: str) -> str:
        """Return ``text`` as an absolute path, without links resolved; a slash or a dot at the end stays a slash."""
        absolute = posixpath.normpath(posixpath.join("/", self.working_directory, text))
        absolute = "/" + absolute.lstrip("/")
        is_directory = text in ("", ".") or text.endswith(("/", "/."))
        return f"{absolute}/" if is_directory and absolute != "/" else absolute

    def note(self, created_by: str, *, layer: bool) -> None:
        """Add a line to the image's history.

        Raises:
            InvalidArgumentError: no config may be as large as that.
        """
        self.history_characters += len(created_by)
        if self.history_characters > MAX_HISTORY_CHARACTERS:
            raise InvalidArgumentError(f"history has more than {MAX_HISTORY_CHARACTERS} characters")
        created_ns = None if self.epoch_s is None else self.epoch_s * 10**9
        self.history.append(History(created_ns, created_by, comment=HISTORY_COMMENT, empty_layer=not layer))

    def finished(self, platform: Platform, labels: Mapping[str, str]) -> ConfigFile:
        """Return the config of the image that the stage is now; its layers are those of the base alone."""
        return ConfigFile(
            platform=platform,
            diff_ids=self.base.diff_ids if self.base else (),
            created_ns=None if self.epoch_s is None else self.epoch_s * 10**9,
            run=replace(
                self.run,
                env=tuple(f"{name}={value}" for name, value in self.image_env.items()),
                labels={**self.run.labels, **labels},
            ),
            history=tuple(self.history),
            os_version=self.base.os_version if self.base else "",
            author=self.author,
        )


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value
