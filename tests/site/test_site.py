"""The documentation site in a browser: links work, the search finds, and pages are readable.

`make test-docs` builds the site and runs this; it needs Chromium.
"""

import inspect
import re
import shutil
import threading
import tomllib
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag

import pytest
from playwright.sync_api import sync_playwright
from sphinx.util.inventory import InventoryFile

import skbackprop
from test_house import PUBLIC_MODULES

DOCS = Path(__file__).parents[2] / "docs"
URLS = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["urls"]
SITE = DOCS / "_build" / "html"
# All pages; the theme has templates among its files.
PAGES = [str(path.relative_to(SITE)) for path in sorted(SITE.rglob("*.html"))]
PAGES = [page for page in PAGES if not page.startswith("_static")]
# One page of each kind.
KINDS = [
    "index.html",
    "questions.html",
    "user_guide/search.html",
    "user_guide/backpropagation.html",
    "gallery/index.html",
    "gallery/plot_losses.html",
    "reference/index.html",
    "reference/generated/skbackprop.BackpropClassifier.html",
    "_modules/skbackprop/activations.html",
]
# The page that the search finds first for each of these queries.
EXPECTED = {
    query: place.partition(" > ")[0]
    for place, queries in tomllib.loads((DOCS / "site" / "search.toml").read_text()).items()
    for query in queries
}
WIDTHS = {"narrow": 400, "wide": 1300}
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
# It is shut off from the network, and would ask it for its own news.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    """The address that the site is served at."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, "there is no Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


class Window:
    """A page of the browser, and what has gone wrong in it."""

    def __init__(self, browser, width=1300, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page, self.faults = self.context.new_page(), []
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("requestfailed", self.fail)
        self.page.on("response", self.see)

    def hear(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def fail(self, request):
        if request.failure != "net::ERR_ABORTED":  # which leaving a page does
            self.faults.append(request.url)

    def see(self, response):
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")


@pytest.fixture
def window(browser, request):
    window = Window(browser, **getattr(request, "param", {}))
    yield window
    window.context.close()


def test_public_names_have_entries():
    with (SITE / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda _, path: path)
    known = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    modules = [
        module for module in PUBLIC_MODULES if module.__name__ != "skbackprop.model_selection"
    ]
    missing = [
        f"{module.__name__}.{name}"
        for module in modules
        for name in module.__all__
        if not name.startswith("_") and f"{module.__name__}.{name}" not in known
    ]
    top = {f"skbackprop.{name.rpartition('.')[2]}" for name in missing}
    assert top <= known, missing


@pytest.mark.parametrize(
    "documented",
    [
        pytest.param(getattr(module, name), id=path.stem)
        for module in PUBLIC_MODULES
        for name in module.__all__
        if (path := SITE / f"reference/generated/{module.__name__}.{name}.html").exists()
        and inspect.isclass(getattr(module, name))
        and not issubclass(getattr(module, name), Exception)
    ],
)
def test_class_pages_show_the_signature(documented, request):
    page = (SITE / f"reference/generated/{request.node.callspec.id}.html").read_text()
    shown = re.search(r'<dt class="sig.*?</dt>', page, re.DOTALL)[0]
    shown = re.findall(r'<em class="sig-param">(.*?)</em>', shown, re.DOTALL)
    names = [unescape(re.sub(r"<[^>]*>", "", parameter)).partition("=")[0] for parameter in shown]
    expected = inspect.signature(documented).parameters
    assert [name.lstrip("*") for name in names if name not in "*/"] == list(expected)


def test_landing_page_says_how_to_install_and_where_to_report():
    page = unescape((SITE / "index.html").read_text())
    assert f"pip install git+{URLS['Repository']}" in re.sub(r"<[^>]*>", "", page)
    assert set(URLS.values()) <= set(re.findall(r'href="([^"]*)"', page))
    assert f"skbackprop {skbackprop.__version__}" in page


def test_thumbnails_are_large(window, address):
    window.page.goto(address + "gallery/index.html")
    widths = window.page.eval_on_selector_all(
        ".sphx-glr-thumbcontainer img", "all => all.map(image => image.clientWidth)"
    )
    assert len(widths) == len(list((SITE / "gallery").glob("plot_*.html")))
    assert min(widths) > 180


def test_pages_links_and_pictures_load(window, address):
    """All pages are opened, their titles have one line, and all that they link to is there."""
    links, anchors, titles = set(), {}, set()
    for page in PAGES:
        window.page.goto(address + page)
        hrefs = window.page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        links |= {(page, href) for href in hrefs if href.startswith(address)}
        ids = window.page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
        anchors[address + page] = set(ids)
        broken = window.page.eval_on_selector_all(
            "img", "all => all.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        )
        assert broken == [], page
        titles |= {
            (page, lines)
            for lines in window.page.eval_on_selector_all(
                "h1",
                "all => all.map(e => e.offsetHeight / parseFloat(getComputedStyle(e).lineHeight))",
            )
        }
    assert window.faults == []
    # Names of modules may be longer.
    high = {page for page, lines in titles if lines > 1.5 and not page.startswith("_modules/")}
    assert high == set()
    missing = []
    for page, href in links:
        target, anchor = urldefrag(href)
        if target.endswith("/"):
            target += "index.html"
        is_there = (SITE / target.removeprefix(address)).exists()
        # Of names that two modules have, pages of code know one alone.
        is_exact = not page.startswith("_modules/")
        is_named = not anchor or target not in anchors or anchor in anchors[target]
        if not is_there or (is_exact and not is_named):
            missing.append((page, href))
    assert missing == []


@pytest.mark.parametrize(
    "page", sorted((SITE / "gallery").glob("plot_*.html")), ids=lambda p: p.stem
)
def test_printed_lines_of_examples_fit_the_page(page):
    printed = re.findall(r"sphx-glr-script-out.*?<pre>(.*?)</pre>", page.read_text(), re.DOTALL)
    lines = unescape(re.sub(r"<[^>]*>", "", "\n".join(printed))).splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_search_finds_the_right_page_first(window, address):
    found = {}
    for query in (*EXPECTED, "BackpropClassifier"):
        window.page.goto(f"{address}search.html?q={query}")
        first = window.page.locator("ul.search li a").first
        first.wait_for(timeout=30_000)
        found[query] = first.get_attribute("href").partition(".html")[0].removeprefix("./")
    reference = {"BackpropClassifier": "reference/generated/skbackprop.BackpropClassifier"}
    assert found == EXPECTED | reference
    assert window.faults == []


@pytest.mark.parametrize(
    "window",
    [
        pytest.param({"width": width, "scheme": scheme}, id=f"{name}-{scheme}")
        for name, width in WIDTHS.items()
        for scheme in ("light", "dark")
    ],
    indirect=True,
)
def test_pages_are_readable(window, address):
    """Nothing is wider than the window, code is not cut, and text stands out from its ground."""
    for page in KINDS:
        window.page.goto(address + page)
        cut = window.page.eval_on_selector_all(
            ".highlight-python pre, .highlight-Python pre, .doctest pre",
            "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)",
        )
        assert cut == [], page
        assert window.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), page
        ground, ink = window.page.evaluate(
            "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
        )
        assert contrast(ground, ink) > 7, page  # WCAG 2.2, section 1.4.6
    assert window.faults == []


def contrast(*colors):
    """Return the contrast ratio of two colors, as WCAG 2.2 defines it."""
    lights = []
    for color in colors:
        values = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
