"""``sampan completion``: what a shell needs to complete command lines."""

import click

from sampan_cli.app.lazy import sampan_command


@sampan_command(
    "completion",
    examples="""
    source <(sampan completion bash)
    sampan completion zsh > "${fpath[1]}/_sampan"
    sampan completion fish > ~/.config/fish/completions/sampan.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from sampan_cli.app.app import app

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(app, {}, "sampan", "_SAMPAN_COMPLETE").source())
