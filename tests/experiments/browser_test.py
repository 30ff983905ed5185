# SPDX-License-Identifier: Apache-2.0
"""browser_test.py PAGE.html...: headless Chromium draws each page, dark and light, on a desk and on a phone.

Exit code 77 (skipped) only if chromium is not installed (package chromium); it says so.
"""
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PAGES = sys.argv[1:]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESK, PHONE = 1200, 390

# Runs in a copy of the page: what a reader would see of it.
MEASURE = """<script>
addEventListener('error', e => parent.postMessage({error: String(e.message)}, '*'));
addEventListener('load', () => {
  const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const figures = [...document.querySelectorAll('svg.chart')].map(svg => {
    const marks = [...svg.querySelectorAll('.mark, .box')].map(box);
    return {id: svg.id, box: box(svg), marks: marks.length,
            drawn: marks.filter(b => b[2] > b[0] && b[3] > b[1]).length,
            texts: [...svg.querySelectorAll('text')].map(t => [t.textContent, ...box(t)]),
            size: parseFloat(getComputedStyle(svg.querySelector('text')).fontSize) *
                  svg.getBoundingClientRect().width / svg.viewBox.baseVal.width,
            ink: getComputedStyle(svg.querySelector('text')).fill};
  });
  const root = document.documentElement;
  parent.postMessage({width: innerWidth, scroll: root.scrollWidth, figures,
    tables: [...document.querySelectorAll('table')].map(t => [t.id, ...box(t.parentNode)]),
    background: getComputedStyle(document.body).backgroundColor,
    requests: performance.getEntriesByType('resource').map(r => r.name)}, '*');
});
</script>"""
FRAME = """<!DOCTYPE html><html><body><pre id="measured"></pre>
<iframe width="{desk}" height="2000" src="page.html"></iframe>
<iframe width="{phone}" height="2000" src="page.html"></iframe>
<script>
const said = [];
addEventListener('message', e => {{
  said.push(e.data);
  document.getElementById('measured').textContent = JSON.stringify(said);
}});
</script></body></html>"""


def look(page, dark):
    """What the page says of itself at both widths, and what Chromium wrote to its console."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = pathlib.Path(page).read_text()
        (folder / "page.html").write_text(text.replace("</head>", MEASURE + "</head>", 1))
        (folder / "frame.html").write_text(FRAME.format(desk=DESK, phone=PHONE))
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--disable-extensions", "--enable-logging=stderr",
                   f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000",
                   "--window-size=1700,2100", "--dump-dom",
                   f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                   (folder / "frame.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180,
                              env=dict(os.environ, HOME=str(folder)))
        found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.S)
        assert found, done.stderr
        return (json.loads(html.unescape(found.group(1))),
                [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def overlaps(a, b):
    return min(a[3], b[3]) - max(a[1], b[1]) > 1.5 and min(a[4], b[4]) - max(a[2], b[2]) > 3


def brightness(colour):
    return sum(int(n) for n in re.findall(r"\d+", colour)[:3])


class Browser(unittest.TestCase):
    def check_figure(self, figure):
        left, top, right, bottom = figure["box"]
        self.assertGreater(right - left, 200)
        self.assertGreater(bottom - top, 80)
        self.assertGreater(figure["marks"], 0)
        self.assertEqual(figure["drawn"], figure["marks"])
        self.assertGreaterEqual(figure["size"], 8)
        for text in figure["texts"]:
            self.assertGreaterEqual(text[1], left - 1, text)
            self.assertLessEqual(text[3], right + 1, text)
        for i, a in enumerate(figure["texts"]):
            for b in figure["texts"][:i]:
                self.assertFalse(overlaps(a, b), (a, b))

    def test_an_error_and_a_wide_element_would_be_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "bad.html"
            page.write_text("<html><head></head><body><script>undefinedFunction()</script>"
                            "<div style='width:600px'>wide</div></body></html>")
            said, console = look(page, dark=False)
            self.assertTrue(any("undefinedFunction" in line for line in console), console)
            self.assertTrue(any("error" in message for message in said))
            phone, = [s for s in said if s.get("width") == PHONE]
            self.assertGreater(phone["scroll"], phone["width"])

    def test_everything_is_drawn_and_nothing_complains(self):
        for page in PAGES:
            declared = re.findall(r'<svg [^>]*id="([^"]+)"', pathlib.Path(page).read_text())
            self.assertGreater(len(declared), 5)
            for dark in (False, True):
                said, console = look(page, dark)
                self.assertEqual(console, [])
                self.assertEqual(sorted(s.get("width", s.get("error")) for s in said), [PHONE, DESK])
                for view in said:
                    with self.subTest(page=page, dark=dark, width=view["width"]):
                        self.assertLessEqual(view["scroll"], view["width"])
                        self.assertEqual(view["requests"], [])
                        self.assertEqual([f["id"] for f in view["figures"]], declared)
                        ground = brightness(view["background"])
                        self.assertTrue(ground < 150 if dark else ground > 600, view["background"])
                        for table in view["tables"]:
                            self.assertLessEqual(table[3], view["width"], table)
                        for figure in view["figures"]:
                            with self.subTest(figure=figure["id"]):
                                self.check_figure(figure)
                                ink = brightness(figure["ink"])
                                self.assertTrue(ink > 500 if dark else ink < 250, figure["ink"])


if __name__ == "__main__":
    if CHROMIUM is None:
        print("SKIPPED: chromium is not installed (package chromium)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
