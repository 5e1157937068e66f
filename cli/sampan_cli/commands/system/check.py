"""``sampan system check``: is what the engine keeps whole?"""

import sys
from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session

if TYPE_CHECKING:
    from sampan_cli.backend import CheckBackend

# As of `docker run`: it is the engine that fails, and not what was asked for.
_ENGINE_DOWN = 125


@sampan_command(
    "check", examples="sampan system check\nsampan system check --repair\nsampan system check --quick --format json"
)
@click.option("--repair", is_flag=True, help="Repair what is found, and nothing else; fetch only what is missing.")
@click.option("--quick", is_flag=True, help="Compare sizes, rows and names; read no content.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print what is found."
)
@click.pass_obj
def command(session: Session, /, repair: bool, quick: bool, form: str) -> None:
    """Compare blobs and layers with their digests, and rows, files, names and containers with each other.

    Exits with 0 if everything is whole or has been repaired, with 1 if not, and with 125 if the engine does not answer.
    """
    session.run(
        lambda engine: check_engine(engine, repair=repair, quick=quick, as_json=form == "json"),
        engine_exit_code=_ENGINE_DOWN,
    )


async def check_engine(engine: "CheckBackend", *, repair: bool, quick: bool, as_json: bool) -> int:
    """Print what is found; return the exit code."""
    from contextlib import aclosing

    from sampan.engine.check import Options
    from sampan_cli.output.checking import Progress, Report, logins

    report = Report(quick=quick, repair=repair)
    progress = Progress(sys.stderr if sys.stderr.isatty() else None)
    async with aclosing(engine.check(Options(repair=repair, quick=quick), logins)) as steps:
        async for step in steps:
            progress.show(step)
            for line in report.add(step):
                if not as_json:
                    progress.clear()
                    click.echo(line)
    progress.clear()
    if as_json:
        click.echo(report.json())
    else:
        for line in report.summary():
            click.echo(line)
    return 0 if report.whole else 1
