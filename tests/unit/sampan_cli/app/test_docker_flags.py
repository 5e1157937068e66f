import click
import pytest

from sampan_cli.app.docker_flags import as_click_writes

OPTIONS = [
    click.Option(["--rm"], is_flag=True),
    click.Option(["--tty", "-t"], is_flag=True),
    click.Option(["--interactive", "-i"], is_flag=True),
    click.Option(["--publish", "-p"], multiple=True),
    click.Option(["--sig-proxy/--no-sig-proxy"], default=True),
]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("--rm image", "--rm image"),
        ("--rm=true image", "--rm image"),
        ("--rm=false image", "image"),
        ("--rm=0 --tty=1 image", "--tty image"),
        ("-t=false image", "image"),
        ("-it=false image", "-i image"),
        ("-it image", "-i -t image"),
        ("--sig-proxy=false image", "--no-sig-proxy image"),
        ("--no-sig-proxy=false image", "--sig-proxy image"),
        ("-p=80:80 image", "-p 80:80 image"),
        ("-p80:80 image", "-p 80:80 image"),
        ("-itp 80:80 image", "-i -t -p 80:80 image"),
        ("-p --rm=true image", "-p --rm=true image"),  # a value, however odd
        ("--publish --rm=true image", "--publish --rm=true image"),
        ("--publish=--rm=true image", "--publish=--rm=true image"),
        ("image --rm=false -p=1", "image --rm=false -p=1"),
        ("--rm -- --rm=false", "--rm -- --rm=false"),
        ("--unknown=false -x=1 image", "--unknown=false -x=1 image"),
        ("- --rm=true", "- --rm=true"),
        ("-p", "-p"),
    ],
)
def test_spellings(written: str, read: str) -> None:
    assert list(as_click_writes(written.split(), OPTIONS, mixed=False)) == read.split()


def test_options_behind_operands() -> None:
    assert list(as_click_writes(["c", "--tty=false", "-p=1"], OPTIONS, mixed=True)) == ["c", "-p", "1"]


@pytest.mark.parametrize("written", ["--rm=maybe", "-t=yes", "--rm="])
def test_a_flag_that_is_neither_true_nor_false_is_refused(written: str) -> None:
    with pytest.raises(click.UsageError, match="invalid argument"):
        list(as_click_writes([written], OPTIONS, mixed=True))
