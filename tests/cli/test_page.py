from __future__ import annotations

from html.parser import HTMLParser

from tilewright.cli.page import page

TABLES = [("kernels <script>", ["name", "calls"], [["a & b", "3"], ["<b>", "1"]]), ("", ["x"], [])]
TEXT = page("latency of m<1>.onnx", TABLES, ["done & dusted"], "9.9")


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        assert not any(name in ("src", "href") for name, _ in attrs), "nothing is fetched"
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
