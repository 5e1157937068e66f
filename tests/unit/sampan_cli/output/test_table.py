import json
from typing import Any

import pytest

from sampan_cli.output.table import print_list, table
from sampan_cli.template.tokens import TemplateError

ROWS: list[dict[str, Any]] = [
    {"ID": "0123456789ab", "Name": "web", "Label": lambda key: key.upper()},
    {"ID": "b", "Name": "a-longer-name"},
]
HEADERS = {"ID": "CONTAINER ID", "Name": "NAMES"}
DEFAULT = "{{.ID}}\t{{.Name}}"


def printed(template: str) -> list[str]:
    lines: list[str] = []
    print_list(ROWS, template, HEADERS, DEFAULT, lines.append)
    return lines


def test_columns_are_as_wide_as_their_widest_cell_and_never_narrower_than_ten() -> None:
    assert table([["A", "B"], ["x", "y"]]) == ["A         B", "x         y"]
    assert table([["A", "B"], ["0123456789", "y"]]) == ["A            B", "0123456789   y"]


@pytest.mark.parametrize("template", ["", "table"])
def test_plain_table_has_the_default_columns(template: str) -> None:
    assert printed(template) == ["CONTAINER ID   NAMES", "0123456789ab   web", "b              a-longer-name"]


def test_table_template_takes_its_titles_from_the_fields() -> None:
    assert printed(r"table {{.Name}}\t{{.ID}}")[0] == "NAMES           CONTAINER ID"
    assert printed("table {{upper .Name}}")[:2] == ["NAMES", "WEB"]


def test_json_is_one_object_a_line_without_functions() -> None:
    assert [json.loads(line) for line in printed("json")] == [
        {"ID": "0123456789ab", "Name": "web"},
        {"ID": "b", "Name": "a-longer-name"},
    ]


def test_template_prints_one_line_per_row_and_understands_backslash_t() -> None:
    assert printed(r"{{.Name}}\t{{.ID}}") == ["web\t0123456789ab", "a-longer-name\tb"]


def test_field_that_is_not_there_is_named() -> None:
    with pytest.raises(TemplateError, match="Nosuch"):
        printed("table {{.Nosuch}}")


def test_empty_list_still_has_its_titles() -> None:
    lines: list[str] = []
    print_list([], "", HEADERS, DEFAULT, lines.append)
    assert lines == ["CONTAINER ID   NAMES"]
