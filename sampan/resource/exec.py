"""What an exec is: the plain-Python twin of ``execs.proto``'s nouns."""

from dataclasses import dataclass

from sampan.resource.container_spec import ConsoleSize, Process


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What to run in the container."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    working_dir: str = ""  # empty: the container's
    user: str = ""  # empty: the container's
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    privileged: bool = False
    detach_keys: str = ""
    console_size: ConsoleSize | None = None

    def process(self) -> Process:
        """Return it as the process that ``Bundles.exec_process`` takes."""
        return Process(
            cmd=self.args,
            env=self.env,
            working_dir=self.working_dir,
            user=self.user,
            tty=self.tty,
            open_stdin=self.attach_stdin,
            attach_stdin=self.attach_stdin,
            attach_stdout=self.attach_stdout,
            attach_stderr=self.attach_stderr,
            console_size=self.console_size,
        )


@dataclass(frozen=True, slots=True)
class Exec:
    """An exec's record."""

    id: str  # 64 hex digits
    container_id: str
    spec: ExecSpec
    started: bool = False
    pid: int = 0  # 0 when not running
    exit_code: int | None = None  # None until it has ended

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.started and self.exit_code is None
