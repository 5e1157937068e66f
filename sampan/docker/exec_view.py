"""An exec in the shape that Docker's clients know."""

from sampan.resource.exec import Exec


def exec_json(found: Exec) -> dict[str, object]:
    """Return an exec in the shape of its inspect; ``ExitCode`` is null until it has ended."""
    spec = found.spec
    process = {
        "arguments": list(spec.args[1:]),
        "entrypoint": spec.args[0] if spec.args else "",
        "privileged": spec.privileged,
        "tty": spec.tty,
    }
    if spec.user:
        process["user"] = spec.user
    return {
        "ID": found.id,
        "Running": found.running,
        "ExitCode": found.exit_code,
        "ProcessConfig": process,
        "OpenStdin": spec.attach_stdin,
        "OpenStderr": spec.attach_stderr,
        "OpenStdout": spec.attach_stdout,
        "CanRemove": False,
        "ContainerID": found.container_id,
        "DetachKeys": spec.detach_keys,
        "Pid": found.pid,
    }
