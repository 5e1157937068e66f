import json
from typing import Any

import pytest

from sampan_cli.template.functions import ABSENT, NIL_LIST, NIL_MAP, GoMap
from sampan_cli.template.template import Template
from sampan_cli.template.tokens import TemplateError

VALUE: dict[str, Any] = {
    "State": {"Status": "running", "Pid": 3, "Paused": False},
    "Labels": GoMap({"tier": "web", "a": "b"}),
    "Ports": GoMap({"80/tcp": [{"HostPort": "8080"}], "443/tcp": None}),
    "Args": ["sleep", "10"],
    "Nothing": None,
    "Label": lambda name: f"<{name}>",
    "NoList": NIL_LIST,
    "NoMap": NIL_MAP,
    "Health": ABSENT,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.State.Status}}", "running"),
        ("{{ .State.Pid }}/{{.State.Paused}}", "3/false"),
        ("{{json .State}}", '{"Status":"running","Pid":3,"Paused":false}'),
        ("{{.Args}} {{.Labels}} {{.Nothing}}", "[sleep 10] map[a:b tier:web] <no value>"),
        ('{{index .Labels "tier"}} {{.Labels.tier}} {{.Labels.missing}}', "web web <no value>"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range .Args}}[{{.}}]{{end}}", "[sleep][10]"),
        ("{{range $i, $arg := .Args}}{{$i}}={{$arg}} {{end}}", "0=sleep 1=10 "),
        ("{{range $port, $_ := .Ports}}{{$port}} {{end}}", "443/tcp 80/tcp "),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Paused}}a{{else if .Args}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .Nothing}}x{{end}}", "3"),
        ("{{with $s := .State}}{{$s.Pid}}{{$.State.Status}}{{end}}", "3running"),
        ("{{$x := .State.Pid}}{{$x}}", "3"),
        ('{{join .Args ","}}', "sleep,10"),
        ("{{.State.Status | upper}}", "RUNNING"),
        ('{{printf "%s=%d %q" .State.Status .State.Pid "x"}}', 'running=3 "x"'),
        ('{{.State.Status | printf "%-9s|"}}', "running  |"),
        ("{{println .State.Pid}}", "3\n"),
        ('{{if and .Args (eq .State.Status "running" "paused")}}y{{end}}', "y"),
        ("{{if or .Nothing (not .State.Paused) }}y{{end}}{{ne 1 2}}", "ytrue"),
        ("{{len .Args}}{{slice .State.Status 0 3}}", "2run"),
        ('{{.Label "tier"}}', "<tier>"),
        ("{{.NoList}} {{.NoMap}} {{.Health}}", "[] map[] <nil>"),
        ("{{json .NoList}}{{json .NoMap}}{{json .Health}} {{len .NoList}}", "nullnullnull 0"),
        ("{{if .Health}}h{{else}}none{{end}}{{range .NoMap}}x{{end}}", "none"),
        ('{{.NoMap.key}} {{index .NoMap "key"}}', "<no value> <no value>"),
        ("a {{- .State.Pid -}} b", "a3b"),
        ("{{/* nothing */}}x", "x"),
        ('{{`}}`}}{{"}}"}}', "}}}}"),
    ],
)
def test_template_prints_what_go_prints(template: str, text: str) -> None:
    assert Template(template).render(VALUE) == text


def test_json_of_all_has_no_functions_and_no_parts_that_are_absent() -> None:
    shown = json.loads(Template("{{json .}}").render(VALUE))
    assert shown == {name: part for name, part in VALUE.items() if name not in ("Label", "Health")} | {
        "NoList": None,
        "NoMap": None,
    }


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.State", "unclosed action"),
        ("{{nosuch .State}}", "function 'nosuch' not defined"),
        ("{{if .State}}x", "end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{}}", "missing value"),
        ("{{(.State}}", "unclosed left paren"),
        ('{{define "x"}}{{end}}', "{{define}} is not supported"),
        ("{{.State %}}", "unexpected '%'"),
    ],
)
def test_template_that_go_would_refuse_is_refused_when_it_is_parsed(template: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        Template(template)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Nosuch}}", "no entry for key 'Nosuch'"),
        ("{{.Nothing.Field}}", "nil pointer evaluating 'Field'"),
        ("{{.State.Status.Field}}", "can't evaluate field Field"),
        ("{{index .Args 9}}", "index out of range: 9"),
        ("{{range .State.Pid}}{{end}}", "can't iterate"),
        ("{{$nosuch}}", "undefined variable"),
        ("{{len .State.Pid}}", "error calling len"),
    ],
)
def test_template_that_does_not_fit_says_where(template: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        Template(template).render(VALUE)


def test_a_text_in_quotes_is_as_go_writes_it() -> None:
    text = 'é\x1b\a\n"\\\u200b\U000e0001\udcff'
    assert Template('{{printf "%q" .}}').render(text) == r'"é\x1b\a\n\"\\\u200b\U000e0001\xff"'
