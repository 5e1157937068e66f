"""What is built: Dockerfiles with their contexts, the same for every engine, and how to tell that it was built."""

import hashlib
import tarfile
from pathlib import Path

STEPS = 10
SOURCE_FILES = 5_000
CONTEXT_FILES = 30_000
STAGES_S = (2, 1)  # how long the steps of two stages sleep

_FILES_PER_FOLDER = 100


def small_steps(directory: Path, base: str, mark: str) -> Path:
    """Write a Dockerfile of small ``RUN`` steps, none of which any cache knows; their output is ``mark`` in /out."""
    runs = [f"RUN echo {mark}-{number} >> /out" for number in range(STEPS)]
    return _context(directory, f"FROM {base}", *runs)


def small_steps_output(mark: str) -> str:
    """Return what /out then holds."""
    return "\n".join(f"{mark}-{number}" for number in range(STEPS))


def application(directory: Path, base: str) -> Path:
    """Write ``STEPS`` steps: some that prepare, a copy of the sources, and three that read them."""
    context = _context(
        directory,
        f"FROM {base}",
        "ENV LANGUAGE=C",
        "RUN echo tools > /tools",
        "RUN echo libraries > /libraries",
        "RUN echo account > /account",
        "RUN echo settings > /settings",
        "WORKDIR /app",
        "COPY source source",
        "RUN cat source/*/* | sha256sum > /sum",
        "RUN find source -type f | wc -l > /count",
        "RUN cat /sum /count > /out",
    )
    write_files(context / "source", SOURCE_FILES)
    return context


def change_source(context: Path, mark: str) -> Path:
    """Change one source file, whose content is ``mark`` then; return it."""
    changed = source_file(context / "source", SOURCE_FILES // 2)
    if not changed.exists() or changed.read_text() != mark:
        changed.write_text(mark)
    return changed


def application_output(context: Path) -> str:
    """Return what /out of the application then holds."""
    files = sorted((context / "source").glob("*/*"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    return f"{digest.hexdigest()}  -\n{len(files)}"


def many_files(directory: Path, base: str) -> Path:
    """Write a context of ``CONTEXT_FILES`` files, all of which are copied."""
    context = _context(directory, f"FROM {base}", "COPY data /data", "RUN find /data -type f | wc -l > /out")
    write_files(context / "data", CONTEXT_FILES)
    return context


def two_stages(directory: Path, base: str, mark: str) -> Path:
    """Write two stages that do not need each other, and a third that needs both; /out holds ``mark`` twice."""
    first, second = STAGES_S
    return _context(
        directory,
        f"FROM {base} AS first",
        f"RUN sleep {first} && echo {mark} > /first",
        f"FROM {base} AS second",
        f"RUN sleep {second} && echo {mark} > /second",
        f"FROM {base}",
        "COPY --from=first /first /",
        "COPY --from=second /second /",
        "RUN cat /first /second > /out",
    )


def large_step(directory: Path, base: str, mark: str) -> Path:
    """Write a step that makes 500 MB as installations do, and says in /out, in nanoseconds, when it was done.

    ``base`` is Debian: its trees of 200 MB twice, and 100 MB that do not compress. No cache knows ``mark``.
    """
    copies = [f"mkdir /{copy} && cp -a /usr /var /{copy}" for copy in ("first", "second")]
    made = [*copies, "head -c 100000000 /dev/urandom > /data", "date +%s%N > /out"]
    return _context(
        directory,
        f"FROM {base}",
        f"ENV MARK={mark}",
        f"RUN {' && '.join(made)}",
    )


def pack(context: Path, path: Path) -> Path:
    """Write a context as the tar that the classic builder takes."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(context, ".")
    return path


def write_files(root: Path, count: int) -> None:
    """Write files of some hundred bytes, as source code is spread over folders."""
    for number in range(count):
        file = source_file(root, number)
        if number % _FILES_PER_FOLDER == 0:
            file.parent.mkdir(parents=True)
        file.write_text(f"line of file {number}\n" * 40)


def source_file(root: Path, number: int) -> Path:
    """Return the path of one of those files."""
    return root / f"part-{number // _FILES_PER_FOLDER:03}" / f"file-{number:05}.txt"


def _context(directory: Path, *dockerfile: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text("\n".join(dockerfile) + "\n")
    return directory
