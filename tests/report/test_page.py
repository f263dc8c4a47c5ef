"""Tables as HTML and Markdown."""

from detr_jittor.report.page import Table, folded, page, paragraph

TABLE = Table(["", "AP"], [["last <epoch>", "0.1"], ["best | all", "0.25"]], note="of 1 & all")


def test_html_is_escaped():
    assert TABLE.html() == ("<table>\n<tr><th></th><th>AP</th></tr>\n<tr><td>last &lt;epoch&gt;</td><td>0.1</td></tr>\n"
                            '<tr><td>best | all</td><td>0.25</td></tr>\n</table>\n<p class="note">of 1 &amp; all</p>')


def test_markdown_is_aligned():
    assert TABLE.markdown().splitlines() == [
        "|              | AP   |",
        "|--------------|-----:|",
        "| last <epoch> | 0.1  |",
        "| best \\| all  | 0.25 |",
    ]


def test_a_page_is_one_document():
    text = page("a < b", [paragraph("x & y"), folded("more", TABLE.html())])
    assert text.startswith("<!DOCTYPE html>") and text.count("<title>a &lt; b</title>") == 1
    assert "<p>x &amp; y</p>" in text and "<details><summary>more</summary>" in text and text.endswith("</html>\n")
