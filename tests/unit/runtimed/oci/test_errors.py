from pathlib import Path

import pytest

from runtimed.oci.errors import create_error, exec_error, exit_code, prepare_error, step_error
from sampan.errors import CommandNotExecutableError, CommandNotFoundError, NotStartedError, StartError

RUNC = "runc create failed: unable to start container process: "


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        (RUNC + 'exec: "nope": executable file not found in $PATH', CommandNotFoundError, 127),
        (RUNC + 'exec: "/nope": stat /nope: no such file or directory', CommandNotFoundError, 127),
        (RUNC + 'exec: "/etc/passwd": permission denied', CommandNotExecutableError, 126),
        (RUNC + 'exec: "/bin": is a directory', CommandNotExecutableError, 126),
        (RUNC + "error mounting /a: no such file or directory", CommandNotFoundError, 127),
        ("open /proc/sys/net/nosuch: No such file or directory", CommandNotFoundError, 127),
        ("invalid seccomp action `x`", StartError, 128),
        ("executable file `nope` not found in $PATH: No such file or directory", CommandNotFoundError, 127),
        ("open executable: Permission denied", CommandNotExecutableError, 126),
        ("open executable: Operation not permitted", CommandNotExecutableError, 126),  # of a directory
    ],
)
def test_the_kind_of_failure_decides_the_exit_code(message: str, kind: type[StartError], code: int) -> None:
    error = create_error(message, "nope")
    assert type(error) is kind
    assert exit_code(error) == code
    assert str(error).startswith("failed to create task for container: failed to create shim task: OCI runtime create")
    assert str(error).endswith(": unknown")


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (OSError(28, "No space left on device"), "/run/bundle: no space left on device"),
        (OSError(28, "No space left on device", "/data/files/hosts"), "/data/files/hosts: no space left on device"),
        (OSError("a part has no number"), "/run/bundle: a part has no number"),
    ],
)
def test_what_cannot_be_prepared_is_told_with_its_place_in_words_that_scripts_look_for(
    failed: OSError, words: str
) -> None:
    assert str(prepare_error(failed, Path("/run/bundle"))) == f"cannot prepare the container: {words}"


def test_a_missing_directory_of_an_exec_counts_as_not_found() -> None:
    text = 'exec failed: unable to start container process: chdir to cwd ("/nope") failed: no such file or directory'
    assert exit_code(exec_error(text, "pwd")) == 127


def test_crun_says_of_a_missing_directory_what_runc_says() -> None:
    error = exec_error("chdir `/nope`: No such file or directory", "pwd")
    assert exit_code(error) == 127
    assert str(error) == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'chdir to cwd ("/nope") set in config.json failed: no such file or directory: unknown'
    )


def test_a_file_mounted_on_a_directory_gets_a_hint() -> None:
    error = create_error("mount `/etc/passwd` to `etc`: Not a directory", "true")
    assert "`etc`: not a directory: unknown: Are you trying" in str(error)
    assert type(error) is StartError  # which decides the code that the clients exit with
    error = create_error(RUNC + 'error mounting "/a" to rootfs at "/etc": not a directory', "true")
    assert str(error).endswith("Check if the specified host path exists and is the expected type")
    assert exit_code(error) == 127


def test_crun_and_runc_say_the_same_in_the_end() -> None:
    crun = create_error("executable file `nope` not found in $PATH: No such file or directory", "nope")
    runc = create_error(RUNC + 'exec: "nope": executable file not found in $PATH\n', "nope")
    assert str(crun) == str(runc)


def test_crun_says_of_a_path_that_is_not_there_what_runc_says() -> None:
    crun = create_error("executable file `/no/such` not found: No such file or directory", "/no/such")
    runc = create_error(RUNC + 'exec: "/no/such": stat /no/such: no such file or directory', "/no/such")
    assert str(crun) == str(runc)
    assert exit_code(crun) == 127


def test_an_errno_of_crun_is_told_in_go_s_words() -> None:
    error = create_error("open `/proc/sys/net/nosuch`: No such file or directory", "true")
    assert str(error).endswith("open `/proc/sys/net/nosuch`: no such file or directory: unknown")


def test_an_exec_says_what_docker_says() -> None:
    text = 'exec failed: unable to start container process: exec: "nope": executable file not found in $PATH\n'
    assert str(exec_error(text, "nope")) == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nope": executable file not found in $PATH: unknown'
    )


def test_a_step_says_which_of_its_processes_was_not_started() -> None:
    said = 'unable to start container process: exec: "nope": executable file not found in $PATH'
    assert str(step_error(said, "nope")) == f"runc run failed: {said}"
    assert str(step_error(said, "nope", further=True)) == f"exec failed: {said}"


def test_a_step_s_error_tells_by_its_type_that_the_runtime_is_whose_it_is() -> None:
    assert type(step_error('exec: "nope": executable file not found in $PATH', "nope")) is CommandNotFoundError
    assert type(step_error("error during container init: cannot allocate memory", "sh")) is NotStartedError


def test_a_runtime_that_crashes_is_quoted_without_its_stacks() -> None:
    said = (
        "runtime/cgo: pthread_create failed: Resource temporarily unavailable\nSIGABRT: abort\nPC=0x7f\n\ngoroutine 0"
    )
    assert str(step_error(said, "sh")) == (
        "runc run failed: runtime/cgo: pthread_create failed: Resource temporarily unavailable"
    )
