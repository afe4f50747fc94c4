"""The pages in a real browser: keys, clicks, lost connections, hostile texts, and from pairs to a trained policy."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.hostile.test_html_injection import ALL, PAYLOADS
from tests.pipeline.live.web.browsing import small_campaign
from tests.pipeline.live.web.chromium import browser, needed, opened, served
from truthful_rlhf.labelers.pairs import Pairs
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.settings import CampaignSettings

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
PWNED = "document.title === 'PWNED' || document.documentElement.hasAttribute('data-pwned')"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    needed()
    with browser() as running:
        yield running


def good_side(page: Any) -> str:
    return "left" if "good" in page.locator(".left .text").inner_text() else "right"


def pair_shown(page: Any) -> str:
    return str(page.locator("input[name=pair]").first.get_attribute("value"))


def answered(page: Any, act: Any) -> None:
    """Do something that sends the form, and wait until the next page has come without a reload."""
    before = page.locator("input[name=key]").first.element_handle()
    act()
    page.wait_for_function("old => !old.isConnected", arg=before)


# ---- keys, clicks, phones


def test_everything_works_with_keys_alone(chromium: Any, campaign: Campaign) -> None:
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann")
        said = page.locator("#said")
        for key, words in (
            ("1", "Surely left"),
            ("9", "Surely right"),
            ("5", "Tie: neither is better"),
            ("3", "Left is better, 75 % sure"),
        ):
            page.keyboard.press(key)
            assert said.inner_text() == words
            assert page.get_by_role("slider").get_attribute("aria-valuetext") == words
        page.keyboard.press("ArrowRight")
        assert said.inner_text() == "Left is better, 70 % sure"
        page.keyboard.press("9" if good_side(page) == "right" else "1")
        first = pair_shown(page)
        answered(page, lambda: page.keyboard.press("Enter"))
        assert page.locator("#note").inner_text() == "Saved."
        assert page.evaluate("document.activeElement.tagName") == "H1", "a screen reader reads on at the new pair"
        assert campaign.state().rounds.report.tolist() == [1.0]
        answered(page, lambda: page.keyboard.press("u"))
        assert pair_shown(page) == first
        page.keyboard.press("5")
        answered(page, lambda: page.keyboard.press("Enter"))
        assert campaign.state().rounds.report.tolist() == [0.5]
        answered(page, lambda: page.keyboard.press("s"))
        assert campaign.state().labelers[0].skipped == 1
        assert 0 < campaign.state().labelers[0].seconds < 60
        assert not page.faults


def test_keys_can_be_turned_off(chromium: Any, campaign: Campaign) -> None:
    """Single keys disturb people who speak to their computer (WCAG 2.1.4)."""
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann")
        page.locator("#keys summary").click()
        page.get_by_label("Use these keys").uncheck()
        page.locator("h1").click()
        page.keyboard.press("s")
        page.keyboard.press("9")
        assert page.locator("#said").inner_text() == "Tie: neither is better"
        page.reload()
        page.keyboard.press("9")
        assert page.locator("#said").inner_text() == "Tie: neither is better"
        assert campaign.state().labelers[0].skipped == 0


def test_tab_reaches_every_control_in_its_order(chromium: Any, campaign: Campaign) -> None:
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann")
        names = []
        for _ in range(7):
            page.keyboard.press("Tab")
            names.append(page.evaluate("(e => e.id || e.innerText.trim())(document.activeElement)"))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{names[-1]} shows no focus"
        expected = ["Skip to the content", "Sign out", "right", "Save and go on", "Skip"]
        assert names[:5] == expected
        assert names[5:] == ["Why saying what you believe pays", "Keys"]


def test_without_scripts_the_forms_do_the_same(chromium: Any, campaign: Campaign) -> None:
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann", java_script_enabled=False)
        page.get_by_role("button", name="Save and go on").click()
        assert page.locator("#note").inner_text() == "Saved."
        page.get_by_role("button", name="Undo the last answer").click()
        assert "Taken back" in page.locator("#note").inner_text()
        page.get_by_role("button", name="Skip").click()
        assert "Skipped" in page.locator("#note").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_pages_without_scrolling_sideways(chromium: Any, tmp_path: Path, scheme: str) -> None:
    campaign = small_campaign(tmp_path / "tea", 6, "word " * 200 + "x" * 300, audit_rate=1.0, reports_per_pair=1)
    for k in range(3):
        task = campaign.next_task("ann")
        assert task is not None
        campaign.report("ann", task.pair_id, 0.7, 3.0, f"k{k}")
    with served(campaign) as base:
        for name in ("bob", "expert", "owner"):
            page = opened(chromium, base, campaign, name, color_scheme=scheme, **PHONE)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
            if name != "owner":
                box = page.locator("form.judge button.main").bounding_box()
                assert box["y"] + box["height"] <= 740, "the form stays in sight"
                assert box["height"] >= 44
            assert not low_contrast(page), name
            assert not page.faults


def low_contrast(page: Any) -> list[str]:
    """Return the texts of a page whose contrast is below 4.5 (WCAG 1.4.3), by the colours that the browser computed."""
    found: list[str] = page.evaluate(
        """() => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const part = (v) => v <= 10.31 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
        const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
        const ground = (e) => {
            if (!e) return [255, 255, 255];
            const colour = rgb(getComputedStyle(e).backgroundColor);
            return colour[3] === 0 ? ground(e.parentElement) : colour;
        };
        const bad = [];
        for (const e of document.querySelectorAll("body *")) {
            if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
            const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
            if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${e.tagName} ${e.textContent.trim().slice(0, 40)}`);
        }
        return bad; }"""
    )
    return found


def test_the_measure_of_contrast_sees_grey_on_grey(chromium: Any) -> None:
    page = chromium.new_page()
    page.set_content("<body style='background:#fff'><p style='color:#888'>pale</p><p style='color:#555'>dark</p>")
    assert low_contrast(page) == ["P pale"]


# ---- bad connections


def test_an_answer_is_sent_again_until_it_has_arrived_and_counts_once(chromium: Any, campaign: Campaign) -> None:
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann")
        tried: list[str] = []

        def lost(route: Any) -> None:
            tried.append(route.request.post_data)
            if len(tried) == 1:
                route.abort()  # the request is lost
            elif len(tried) == 2:
                route.fetch()  # it arrives, and the answer is lost
                route.abort()
            else:
                route.continue_()

        page.route("**/label", lambda route: lost(route) if route.request.method == "POST" else route.continue_())
        page.keyboard.press("1")
        answered(page, lambda: page.keyboard.press("Enter"))
        assert len(tried) == 3
        assert len(set(tried)) == 1
        assert page.locator("#note").inner_text() == "Saved."
        assert campaign.state().counts.reports == 1


def test_while_nothing_arrives_the_page_says_so_and_takes_no_second_answer(chromium: Any, campaign: Campaign) -> None:
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann")
        page.route("**/label", lambda route: route.abort())
        page.keyboard.press("Enter")
        page.get_by_text("Not saved yet").wait_for()
        assert page.get_by_role("button", name="Save and go on").is_disabled()
        assert campaign.state().counts.reports == 0


def test_impatient_clicks_count_once(chromium: Any, campaign: Campaign) -> None:
    with served(campaign) as base:
        page = opened(chromium, base, campaign, "ann")
        answered(
            page, lambda: page.evaluate("for (let k = 0; k < 5; k++) document.querySelector('button.main').click()")
        )
        assert campaign.state().counts.reports == 1


# ---- hostile texts


@pytest.mark.parametrize("markdown", [False, True])
def test_hostile_texts_run_nothing_on_any_page(chromium: Any, tmp_path: Path, markdown: bool) -> None:
    texts = [*PAYLOADS, ALL, f"[x](javascript:{PAYLOADS[0]})", f"```\n{ALL}", f"|{PAYLOADS[1]}|\n|-|\n|x|"]
    n = len(texts)
    pairs = Pairs([f"{text}{k}" for k, text in enumerate(texts)], texts, [f"{t}a" for t in texts], texts, topic=texts)
    people = ["<img src=x onerror=alert(1)>", f"b{PAYLOADS[0]}"]
    settings = CampaignSettings(audit_rate=1.0, reports_per_pair=2, markdown=markdown, max_labelers=2)
    campaign = Campaign.create(tmp_path / "<b>tea", pairs, people, settings)
    with served(campaign) as base:
        for name in people:
            page = opened(chromium, base, campaign, name)
            for _ in range(n):
                assert not page.evaluate(PWNED)
                assert "document.title" in page.locator(".left .text").inner_text(), "the text is there to be read"
                unsafe = page.locator("script:not([src]), img, iframe, a[href^=javascript], [onerror], [onload]")
                assert unsafe.count() == 0
                answered(page, lambda page=page: page.keyboard.press("Enter"))
        expert = opened(chromium, base, campaign, "expert")
        for _ in range(n):
            assert not expert.evaluate(PWNED)
            expert.keyboard.press("1")
            answered(expert, lambda: expert.keyboard.press("Enter"))
        owner = opened(chromium, base, campaign, "owner")
        assert not owner.evaluate(PWNED)
        assert "<img src=x" in owner.locator("main").inner_text()
        assert not owner.faults
    assert campaign.state().counts.answered == n


def test_control_the_same_texts_run_where_they_are_not_escaped(chromium: Any) -> None:
    page = chromium.new_page()
    for payload in PAYLOADS[:2]:
        page.set_content(f"<!doctype html><title>ours</title><body>{payload}")
        page.wait_for_function(PWNED)


# ---- from pairs to a policy


@pytest.mark.slow
def test_from_pairs_to_a_trained_policy(chromium: Any, tmp_path: Path, tiny_model_folder: Path) -> None:
    """Three people label twenty pairs by clicks and keys, the expert answers two, and DPO takes the export."""
    campaign = small_campaign(tmp_path / "tea", 20, audit_rate=0.5)
    with served(campaign) as base:
        for name, towards_good in (("ann", "9"), ("bob", "7"), ("cem", "2")):
            page = opened(chromium, base, campaign, name)
            for k in range(20):
                key = towards_good if good_side(page) == "right" else str(10 - int(towards_good))
                page.keyboard.press(key)
                if k % 2:
                    answered(page, lambda page=page: page.keyboard.press("Enter"))
                else:
                    answered(page, lambda page=page: page.get_by_role("button", name="Save and go on").click())
            assert "Nothing to judge now" in page.locator("h1").inner_text()
            assert not page.faults
        state = campaign.state()
        assert (state.counts.closed, state.counts.reports) == (20, 60)
        assert len(set(state.weights.values())) == 1
        expert = opened(chromium, base, campaign, "expert")
        for _ in range(2):
            expert.get_by_label(f"{good_side(expert).capitalize()} is better").check()
            answered(expert, lambda: expert.get_by_role("button", name="Save and go on").click())
        weights = campaign.state().weights
        assert weights["ann"] > weights["bob"] > weights["cem"]
        owner = opened(chromium, base, campaign, "owner")
        assert (
            owner.get_by_role("img", name=re.compile("weights over the rounds")).evaluate("e => e.naturalWidth") > 500
        )
        with owner.expect_download() as started:
            owner.get_by_role("link", name="Download everything").click()
        started.value.save_as(tmp_path / "export.zip")
        assert not owner.faults
    zipfile.ZipFile(tmp_path / "export.zip").extractall(tmp_path)
    trains(tmp_path / "export" / "trl_preference.parquet", tiny_model_folder, tmp_path / "policy")


def trains(file: Path, model: Path, out: Path) -> None:
    """Train a tiny policy on the exported pairs."""
    from datasets import Dataset
    from trl import DPOConfig

    from truthful_rlhf import SoftDPOTrainer
    from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer

    table = pd.read_parquet(file)
    assert len(table) == 20
    assert table["chosen"].str.startswith("good").all()
    assert (table["soft_label"] > 0.5).all()
    trainer = SoftDPOTrainer(
        load_model(str(model)),
        args=DPOConfig(str(out), max_steps=2, per_device_train_batch_size=4, report_to=[], bf16=False, use_cpu=True),
        train_dataset=Dataset.from_pandas(table),
        processing_class=load_tokenizer(str(model)),
    )
    assert trainer.train().global_step == 2
