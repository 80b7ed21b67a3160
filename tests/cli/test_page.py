from __future__ import annotations

import re
from html.parser import HTMLParser

from tilewright.cli.page import page

TABLES = [("kernels <script>", ["name", "calls"], [["a & b", "3"], ["<b>", "1"]]), ("", ["x"], [])]
TEXT = page("latency of m<1>.onnx", TABLES, ["done & dusted"], "9.9")


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        for name, value in attrs:
            assert name != "src" and (name != "href" or value[0] == "#"), "nothing is fetched"
            self.links += [value[1:]] if name == "href" else []
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_is_well_formed_and_fetches_nothing():
    checker = _Checker()
    checker.feed(TEXT)
    assert checker.open == [] and "script" not in checker.tags and "link" not in checker.tags


def test_shows_what_it_was_given_and_escapes_it():
    for part in ("a &amp; b", "&lt;b&gt;", "done &amp; dusted", "m&lt;1&gt;.onnx", "9.9"):
        assert part in TEXT
    assert "<b>" not in TEXT and "<script>" not in TEXT


def _cell(text: str, value: str) -> str:
    """The class of the cell that holds `value`."""
    return re.search(rf'<td(?: class="(\w+)")?>{re.escape(value)}</td>', text)[1]


def test_numbers_stand_right_and_long_text_may_break():
    long, longer = "/encoder/layers.0/attention/MatMul", ", ".join(["node_view (Reshape)"] * 9)
    rows = [
        ["a", "3.5", "1.4 MB", "-37.8%", "", long, longer],
        ["b", "4", "3 B", "", "12 ms", "", ""],
    ]
    text = page("t", [("", list("abcdefg"), rows)], [], "1")
    kinds = [
        _cell(text, value) for value in ("a", "3.5", "1.4 MB", "-37.8%", "12 ms", long, longer)
    ]
    assert kinds == [None, "number", "number", "number", "number", "text", "long"]


def test_a_column_of_numbers_and_words_is_words():
    text = page("t", [("", ["threads"], [["4"], ["as many as there are"]])], [], "1")
    assert _cell(text, "4") is None


def test_many_parts_begin_with_a_list_of_them():
    tables = [(name, ["x"], []) for name in ("patterns", "near misses", "7 operators", "a/b")]
    assert "<nav>" not in page("t", tables, [], "1")
    checker = _Checker()
    checker.feed(page("t", tables, [], "1", drawing="+--"))
    assert checker.links == checker.ids and len(set(checker.ids)) == 5


def test_a_long_list_says_how_long_it_is():
    text = page("t", [("groups", ["x"], [["y"]] * 98), ("interface", ["x"], [["y"]] * 4)], [], "1")
    assert "groups <span>98</span>" in text and ">interface</h2>" in text


def test_figures_stand_below_their_headings():
    text = page("t", [], [], "9.9", figures=[("tuning curves", "<svg><g></g></svg>")])
    assert '<h2 id="tuning-curves">tuning curves</h2><figure><svg>' in text
