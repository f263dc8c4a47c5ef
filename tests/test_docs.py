"""README and docs: English and Chinese in step, links and names that lead somewhere, tables as their sources say."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if not p.name.endswith(".zh-CN.md"))]
CHINESE = [page.with_name(f"{page.stem}.zh-CN.md") for page in ENGLISH]
BOTH = [*ENGLISH, *CHINESE]
OTHERS = [ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")]
PAIRS = pytest.mark.parametrize("english, chinese", [*zip(ENGLISH, CHINESE)], ids=[page.name for page in ENGLISH])
EVERY = pytest.mark.parametrize("page", BOTH, ids=[page.name for page in BOTH])

ORDER = ["Two commands", "Find objects in your own photo", "Models", "Train, fine-tune, your own data",
         "Evaluate, masks, export", "Why two twins, and what was proved", "Speed", "Troubleshooting",
         "Which tool for what", "Limits", "Citation and licence"]
# Words that a reader has to puzzle over, and what stands for them: fix, from scratch, video, report.
NOT_SAID = r"\b(mends?|mended|films?|from nothing)\b|who is missing|sound twins|of which nothing follows"


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """[(language, code)] of a page; comments, which are translated, are left out."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, re.sub(r"\s+# .*", "", code)) for language, code in found]


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.+)$", prose(text), re.MULTILINE)]


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells."""
    found = re.findall(r"(?:^\|.*\|\n)+", prose(text), re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in found]


def figures(words: str) -> list[str]:
    """The numbers and the code in a text, sorted: what a translation keeps."""
    return sorted(re.findall(r"`[^`]*`|[\d.,]*\d", words))


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_there_is_a_page_for_each_subject():
    names = {page.stem for page in ENGLISH}
    assert names >= {"README", "index", "install", "data", "training", "prediction", "proof", "speed", "processes",
                     "reliability", "porting"}
    assert sorted((ROOT / "docs").glob("*.zh-CN.md")) == sorted(CHINESE[1:])


@pytest.mark.parametrize("page", [ENGLISH[0], CHINESE[0]], ids=lambda page: page.name)
def test_the_readme_is_short(page):
    assert len(read(page).splitlines()) <= 200


def test_the_readme_answers_in_the_order_in_which_people_ask():
    assert [words for _, words in headings(read(ENGLISH[0]))] == ["DETR-Jittor", *ORDER]


@PAIRS
def test_the_same_headings(english, chinese):
    assert [level for level, _ in headings(read(english))] == [level for level, _ in headings(read(chinese))]


@PAIRS
def test_the_same_code(english, chinese):
    assert blocks(read(english)) == blocks(read(chinese))


@PAIRS
def test_the_same_tables(english, chinese):
    """As many rows and columns, and in each row the same numbers and the same code."""
    ours, theirs = tables(read(english)), tables(read(chinese))
    assert [[len(row) for row in table] for table in ours] == [[len(row) for row in table] for table in theirs]
    for one, other in zip(ours, theirs):
        for row, translated in zip(one[1:], other[1:]):
            assert figures(" ".join(row)) == figures(" ".join(translated)), (row, translated)


@PAIRS
def test_the_same_links(english, chinese):
    """In the same order of pages; a page that there is in Chinese is linked in Chinese."""
    ours, theirs = (re.findall(r"\]\(([^)#]+)", read(page)) for page in (english, chinese))
    assert ours[0] == chinese.name and theirs[0] == english.name
    translated = [str(Path(link).with_name(f"{Path(link).stem}.zh-CN.md"))
                  if (english.parent / link).resolve() in ENGLISH else link for link in ours[1:]]
    assert sorted(translated) == sorted(theirs[1:])


@EVERY
def test_links_lead_somewhere(page):
    text = read(page)
    for target, place in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if target.startswith("https://"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if place:
            assert place in [anchor(words) for _, words in headings(read(file))], f"{target}#{place}"


@pytest.mark.parametrize("page", [*BOTH, *OTHERS], ids=lambda page: page.name)
def test_names_of_files_are_true(page):
    """A file of the program or of the tests, relative to the root or to either's folder; or a name alone."""
    for name in re.findall(r"`([\w./]+\.(?:py|npz|toml))\b", read(page)):
        there = any((ROOT / folder / name).exists() for folder in ("", "detr_jittor", "tests"))
        assert there or ("/" not in name and any((ROOT / "detr_jittor").rglob(name))), name


@EVERY
def test_every_page_is_in_the_index(page):
    index = ROOT / "docs" / ("index.zh-CN.md" if page in CHINESE else "index.md")
    assert page == index or f"]({page.name})" in read(index) or f"](../{page.name})" in read(index)


@pytest.mark.parametrize("page", [*ENGLISH, *OTHERS], ids=lambda page: page.name)
def test_plain_words(page):
    assert re.findall(NOT_SAID, prose(read(page))) == []


def made_tables():
    """docs/tables.py"""
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_as_their_sources_say():
    """`python docs/tables.py` writes them."""
    maker = made_tables()
    used = {name for page in BOTH for _, name, *_ in maker.MARKED.findall(read(page))}
    assert used == set(maker.TABLES)
    for page in BOTH:
        assert maker.filled(read(page), page in CHINESE) == read(page), f"{page.name}: run python docs/tables.py"


@pytest.mark.parametrize("page", [ENGLISH[0], CHINESE[0]], ids=lambda page: page.name)
def test_the_readme_tells_the_figures_of_the_pages(page):
    """Each figure in the README's tables of proof and speed stands on the page that it leads to."""
    suffix = ".zh-CN.md" if page in CHINESE else ".md"
    _, proved, fast, _ = tables(read(page))
    speed = read(ROOT / "docs" / f"speed{suffix}")
    assert len(fast) == 2 + 6
    assert {(*row[:5],) for row in fast[2:]} <= {(*row[:5],) for table in tables(speed) for row in table}
    proof = read(ROOT / "docs" / f"proof{suffix}")
    summary = re.findall(r"(?<![\d.])\d\.\d\d(?= (?:times|and)| 倍)", read(page).split("\n## ")[0])
    assert len(summary) == 3 and all(figure in proof or figure in speed for figure in summary)
    assert len(proved) == 2 + 5
    for row in proved[2:]:
        for figure in re.findall(r"\d*\.?\d+", row[1].replace("5,600", "")):
            assert figure in proof, (row, figure)
