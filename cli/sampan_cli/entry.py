"""What the command ``sampan`` starts with. It is kept tiny: importing click alone takes longer than Python's start."""

import sys


def main() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        from sampan.version import VERSION

        sys.stdout.write(f"Sampan version {VERSION}\n")
        return
    from sampan_cli.warm.thin import hand_over

    hand_over(sys.argv[1:])
    if sys.flags.no_site:  # our own script starts without what finds packages, which takes as long as all of the above
        import site

        site.main()
    from sampan_cli.app.app import app
    from sampan_cli.app.session import new_session

    app(prog_name="sampan", obj=new_session())
