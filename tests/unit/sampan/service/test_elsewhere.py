"""What an engine's directories tell, carried to where it has none."""

from pathlib import Path

import pytest

from sampan.errors import RemoteError
from sampan.layout import Layout
from sampan.service.elsewhere import laid_out, told
from sampan.service.set_aside import FILE, read_set_aside
from sampan.services import ALL


def test_what_is_told_is_found_again(tmp_path: Path) -> None:
    here = Layout(tmp_path / "d", tmp_path / "r")
    here.run("imaged").mkdir(parents=True)
    here.state_file("imaged").write_text('{"pid": 5, "problems": ["the disk is full"]}')
    aside = '[{"service": "imaged", "kind": "blob", "id": "b", "reason": "gone", "name": ""}]'
    (here.run("imaged") / FILE).write_text(aside)
    here.data("registryd").mkdir(parents=True)
    (here.data("registryd") / "registry.db").touch()
    (tmp_path / "t").mkdir()
    there = laid_out(told(here), tmp_path / "t")
    assert there.own == here
    assert there.problems("imaged") == ["the disk is full"]
    assert there.problems("runtimed") == []
    assert read_set_aside(there, ALL) == read_set_aside(here, ALL)
    assert len(read_set_aside(there, ALL)) == 1
    assert (there.data("registryd") / "registry.db").exists()


@pytest.mark.parametrize("document", [{}, {"DataRoot": 5}, {"DataRoot": "/d", "RunRoot": "/r", "Problems": 3}])
def test_what_is_not_understood_is_refused(tmp_path: Path, document: dict[str, object]) -> None:
    with pytest.raises(RemoteError, match="is not understood"):
        laid_out(document, tmp_path)
