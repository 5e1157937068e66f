import pytest

from sampan.dockerfile.source import MAX_DOCKERFILE_BYTES, DockerfileError, Lines, Statement, parse_source


def only(text: str) -> Statement:
    (statement,) = parse_source(text.encode()).statements
    return statement


def test_continued_lines_are_joined_without_comments_and_empty_lines_between() -> None:
    source = parse_source(b"FROM a\nRUN one && \\\n  # why\n\n  two\n")
    run = source.statements[1]
    assert (run.keyword, run.text, run.lines) == ("RUN", "one &&   two", Lines(2, 5))
    assert source.empty_continuations == (5,)


def test_a_doubled_escape_at_the_end_of_a_line_does_not_continue_it() -> None:
    first, second = parse_source(b"RUN a \\\\\nRUN b\n").statements
    assert (first.text, second.text) == ("a \\\\", "b")


def test_the_escape_directive_lets_backslashes_end_lines() -> None:
    source = parse_source(b"# escape=`\nFROM a\nCOPY x C:\\\nRUN a `\n b\n")
    assert [each.text for each in source.statements] == ["a", "x C:\\", "a  b"]
    assert source.escape == "`"


def test_directives_end_with_the_first_line_that_is_none() -> None:
    source = parse_source(b"# syntax=docker/dockerfile:1\n# about\n# check=skip=all\nFROM a\n")
    assert [(each.name, each.value, each.line) for each in source.directives] == [("syntax", "docker/dockerfile:1", 1)]


def test_comments_directly_above_an_instruction_belong_to_it() -> None:
    first, second = parse_source(b"# lost\n\n# about a\nFROM a\n# two\n# lines\nARG b\n").statements
    assert (first.comments, second.comments) == (("about a",), ("two", "lines"))


def test_flags_keep_blanks_that_are_quoted_and_end_with_the_first_word_that_is_none() -> None:
    statement = only("COPY --from=a --chown='x y':z --  --odd b\n")
    assert (statement.flags, statement.text) == (("--from=a", "--chown=x y:z"), "--odd b")


def test_here_documents_are_read_in_order_and_chomped() -> None:
    statement = only('COPY <<-"A" <<B /to/\n\tx $y\n\tA\nb $y\nB\n')
    first, second = statement.here_documents
    assert (first.name, first.content, first.expand, first.chomp) == ("A", "x $y\n", False, True)
    assert (second.name, second.content, second.expand, second.chomp) == ("B", "b $y\n", True, False)
    assert statement.lines == Lines(1, 5)


@pytest.mark.parametrize(
    "text", ['RUN echo "<<EOT"', "RUN echo '<<EOT'", "RUN echo \\<<EOT", "ENV a=<<EOT", "RUN cat <<<word"]
)
def test_what_only_looks_like_a_here_document_is_text(text: str) -> None:
    assert only(text).here_documents == ()


def test_a_here_document_of_an_onbuild_is_read() -> None:
    assert only("ONBUILD RUN <<E\nx\nE\n").here_documents[0].content == "x\n"


@pytest.mark.parametrize(
    ("data", "message", "lines"),
    [
        (b"", "no instructions", None),
        (b"# only\n\n", "no instructions", Lines(2, 2)),
        (b"RUN <<E\nx\n", "unterminated heredoc", Lines(1, 2)),
        (b"# escape=x\nFROM a\n", "invalid escape token 'x'", Lines(1, 1)),
        (b"# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive", Lines(2, 2)),
        (b"x" * (MAX_DOCKERFILE_BYTES + 1), "exceeds maximum allowed size of 16777216 bytes", None),
    ],
)
def test_what_is_no_dockerfile_is_refused_with_its_line(data: bytes, message: str, lines: Lines | None) -> None:
    with pytest.raises(DockerfileError, match=message) as refused:
        parse_source(data)
    assert refused.value.lines == lines


def test_bytes_that_are_no_text_are_replaced() -> None:
    made = parse_source(b"FROM a\n# M\xfcller\nRUN echo \xff\n").statements
    assert [each.text for each in made] == ["a", "echo \N{REPLACEMENT CHARACTER}"]


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_the_text() -> None:
    first, second = parse_source(b"\xef\xbb\xbfFROM a\r\nRUN b \\\r\n c\r\n").statements
    assert (first.text, second.text) == ("a", "b  c")
