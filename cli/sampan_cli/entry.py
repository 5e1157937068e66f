"""What the command ``sampan`` starts with. It is kept tiny: importing click alone takes longer than Python's start."""

import sys


def main() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        from sampan.version import VERSION

        sys.stdout.write(f"Sampan version {VERSION}\n")
        return
    from sampan_cli.app.app import app
    from sampan_cli.app.session import new_session

    app(prog_name="sampan", obj=new_session())
