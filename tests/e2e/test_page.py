"""The fleet's page in a real browser: 1,000 simulated devices, a lost connection, a phone, light and dark, keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rig.browser import CHROMIUM, Tab, browser
from skerry_hub.ports import NODES
from unit.hub.fleet_site import Site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: tools/setup chromium")
DEVICES = 1_000
SAID = "document.getElementById('said').textContent"
LINK = "document.getElementById('link').dataset.state"
SHOWN = "[...document.querySelectorAll('tbody tr')].filter((r) => r.checkVisibility()).length"


def cell(name: str, which: str) -> str:
    return f"devices.get('{name}').cells.{which}.textContent"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.many(DEVICES)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def tab(site: Site, tmp_path: Path) -> AsyncIterator[Tab]:
    """The page, whole."""
    async with browser(tmp_path / "profile") as chromium:
        tab = await chromium.tab()
        await tab.size(1280, 800)
        await tab.go(site.url)
        await tab.until(f"document.readyState === 'complete' && {SAID} === '1,000 devices'", "the whole fleet")
        await tab.until(f"{LINK} === 'on'", "up to date")
        yield tab


async def picture(tab: Tab, name: str) -> None:
    """For a person to look at, where SKERRY_PICTURES names a folder."""
    folder = os.environ.get("SKERRY_PICTURES")
    if folder:
        await asyncio.sleep(0.3)
        await tab.picture(Path(folder) / f"{name}.png")


async def test_a_thousand_devices(site: Site, tab: Tab) -> None:
    """What is urgent stands first; a row that nobody sees is not drawn; changes arrive where they are seen."""
    assert await tab.eval("document.querySelector('tbody .state').textContent") == "Problem"
    before = await tab.eval(SHOWN)
    assert 0 < before < DEVICES
    await tab.eval("scrollTo(0, document.body.scrollHeight)")
    await tab.until(f"{SHOWN} > {before}", "more rows for who scrolls")
    site.pod("new", "site-00-pi-19", ready=False, waiting="ImagePullBackOff")
    await tab.until(f"{cell('site-00-pi-19', 'pods')} === '3/4'", "a new pod")
    await tab.until(f"{cell('site-00-pi-19', 'drift')} === '1 pod not ready'", "its drift")
    site.session("site-00-pi-19", bytes_in=123_456_789)
    await tab.until(f"{cell('site-00-pi-19', 'in')} === '123 MB'", "bytes of the hub")
    site.gone(NODES, "site-00-pi-19")
    await tab.until(f"{SAID} === '999 devices'", "a device that is no more")
    await picture(tab, "light")
    await tab.scheme("dark")
    await picture(tab, "dark")
    assert tab.trouble == []


async def test_search_filter_and_sort(tab: Tab) -> None:
    await tab.key("/")
    assert await tab.eval("document.activeElement.id") == "find"
    await tab.call("Input.insertText", text="pi-1")
    await tab.until(f"{SAID} === '111 of 1,000 devices'", "the search")
    await tab.key("Escape")
    await tab.until(f"{SAID} === '1,000 devices'", "all again")
    await tab.eval("document.querySelector('#states [data-state=holdover]').click()")
    await tab.until(f"{SAID} === '20 of 1,000 devices'", "the filter")
    assert (
        await tab.eval("document.querySelector('#states [data-state=holdover]').getAttribute('aria-pressed')") == "true"
    )
    assert await tab.eval("new Set([...document.querySelectorAll('tbody .state')].map((c) => c.textContent)).size") == 1
    await tab.eval("document.querySelector('th[data-key=name] button').click()")
    await tab.until("document.querySelector('th[data-key=name]').getAttribute('aria-sort') === 'ascending'", "the sort")
    names = "[...document.querySelectorAll('tbody th')].map((c) => c.textContent)"
    first = await tab.until(f"{names}[0] === 'site-00-pi-7' && {names}", "the order")
    await tab.eval("document.querySelector('th[data-key=name] button').click()")
    await tab.until(f"{names}[0] === '{first[-1]}'", "the order turned round")
    assert tab.trouble == []


async def test_a_lost_connection_is_shown_at_once_and_comes_back(site: Site, tab: Tab) -> None:
    """What was known stays, dimmed, with its time; what changed meanwhile is there afterwards."""
    await site.cut()
    await tab.until("!document.getElementById('lost').hidden", "the loss")
    assert await tab.eval(LINK) == "off"
    assert "Connection lost; this is the fleet of" in await tab.eval("document.getElementById('lost').textContent")
    assert await tab.eval("document.body.classList.contains('stale')")
    assert await tab.eval(SAID) == "1,000 devices"
    await picture(tab, "lost")
    site.gone(NODES, "site-00-pi-19")
    site.node("site-00-pi-0", ("Ready", "Unknown", "Holdover", ""))
    await asyncio.sleep(1.0)
    await site.listen()
    await tab.until(f"{LINK} === 'on' && {SAID} === '999 devices'", "the fleet as it is now")
    await tab.until(f"{cell('site-00-pi-0', 'state')} === 'Holdover'", "what changed meanwhile")
    assert await tab.eval("document.getElementById('lost').hidden")
    assert all("ERR_CONNECTION_REFUSED" in line or "INCOMPLETE" in line for line in tab.trouble), tab.trouble


async def test_retries_have_jitter_and_a_bound(tab: Tab) -> None:
    waits = await tab.eval(
        "(() => { const out = []; for (let i = 0; i < 200; i++) { lose(); out.push(link.at - Date.now()); }"
        " connect(); return out; })()"
    )
    assert min(waits) > 400
    assert max(waits) < 15_600
    assert len({round(w) for w in waits[10:]}) > 100
    await tab.until(f"{LINK} === 'on'", "connected again")


async def test_on_a_phone(tab: Tab) -> None:
    """360 CSS pixels: nothing is cut off, what is touched is large enough, a screen reader still finds a table."""
    await tab.size(360, 740, phone=True)
    await tab.until("getComputedStyle(document.querySelector('tbody tr')).display === 'grid'", "cards")
    assert await tab.eval("document.documentElement.scrollWidth") == 360
    small = (
        "[...document.querySelectorAll('button, input, select')]"
        ".filter((e) => e.checkVisibility() && !e.closest('thead'))"
    )
    assert await tab.eval(f"Math.min(...{small}.map((e) => e.getBoundingClientRect().height))") >= 40
    wide = "[...document.querySelectorAll('tbody tr > *')].filter((e) => e.getBoundingClientRect().right > 360).length"
    assert await tab.eval(wide) == 0
    tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("table") == 1
    assert min(roles.count("row"), roles.count("rowheader"), roles.count("cell")) > 50
    assert {"search", "searchbox", "columnheader", "status"} <= set(roles)
    await picture(tab, "phone")
    await tab.eval("document.getElementById('by').onchange({target: {value: 'since'}})")
    await tab.until("document.querySelector('th[data-key=since]').hasAttribute('aria-sort')", "sorted by since")


async def test_it_is_readable(tab: Tab) -> None:
    """Contrast of every text of the table at least 4.5 to 1 (WCAG 2.2, 1.4.3), in light and dark; a state is a word and
    a sign, not only a colour."""
    for scheme in ("light", "dark"):
        await tab.scheme(scheme)
        await asyncio.sleep(0.1)
        ratios = await tab.eval(CONTRAST)
        assert min(ratios.values()) >= 4.5, (scheme, ratios)
    signs = await tab.eval(
        "[...document.querySelectorAll('#states .state')].map((e) => getComputedStyle(e, '::before').content)"
    )
    assert len(set(signs)) == 5


CONTRAST = """(() => {
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map((v) => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const sheet = getComputedStyle(document.querySelector('.sheet')).backgroundColor;
  const page = getComputedStyle(document.body).backgroundColor, out = {};
  for (const where of [sheet, page])
    for (const name of ['text', 'dim', 'live', 'holdover', 'problem', 'held', 'new', 'accent']) {
      const probe = document.createElement('i'); probe.style.color = `var(--${name})`; document.body.append(probe);
      const [a, b] = [light(getComputedStyle(probe).color), light(where)].sort((x, y) => y - x); probe.remove();
      out[name] = Math.min(out[name] ?? 99, (a + 0.05) / (b + 0.05));
    }
  return out;
})()"""
