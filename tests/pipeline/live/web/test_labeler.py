"""The labeler's and the expert's pages as plain forms: what is written, twice, in two windows, and taken back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pipeline.live.web.browsing import Visit, fields_of, small_campaign
from truthful_rlhf.pipeline.live.campaign import Campaign
from truthful_rlhf.pipeline.live.web.labeler import RIGHTMOST, why_it_pays
from truthful_rlhf.pipeline.live.web.pages import JudgeForm
from truthful_rlhf.pipeline.live.web.text import as_html


def reports(campaign: Campaign) -> list[float]:
    """Return the standing reports, P(A better), in round order."""
    return [float(report) for report in campaign.state().rounds.report]


@pytest.mark.parametrize("towards_good", [0.0, 0.25, 0.5, 0.7, 1.0])
def test_the_slider_says_how_likely_the_better_side_is(campaign: Campaign, towards_good: float) -> None:
    """Response A is the good one, on whichever side it is shown."""
    for name in ("ann", "bob", "cem"):
        visit = Visit(campaign, name)
        good = visit.side_of_good()
        right = towards_good if good else 1.0 - towards_good
        assert "Saved" in visit.label(round(RIGHTMOST * right)).text
    assert reports(campaign) == pytest.approx([towards_good] * 3)


def test_sides_are_swapped_for_some(tmp_path: Path) -> None:
    campaign = small_campaign(tmp_path / "many", 60, max_labelers=5)
    visit = Visit(campaign, "ann")
    sides = []
    for _ in range(25):
        sides.append(visit.side_of_good())
        visit.label(40)
    assert 3 <= sides.count(0) <= 22


def test_a_double_click_counts_once(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    fields = fields_of(visit.client.get("/label").text) | {"right": "0", "action": "report"}
    first, second = (visit.client.post("/label", data=fields) for _ in range(2))
    assert "Saved" in first.text
    assert "Saved" in second.text
    assert campaign.state().counts.reports == 1


def test_the_pages_script_gets_the_next_page_for_an_answer(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    fields = fields_of(visit.client.get("/label").text) | {"right": "0", "action": "report"}
    for _ in range(2):  # the second arrives after the first one's answer was lost
        answer = visit.client.post("/label", data=fields, headers={"X-Page": "1"}, follow_redirects=False)
        assert answer.status_code == 200
        assert "Saved" in answer.text
        assert fields_of(answer.text)["pair"] != fields["pair"]
    assert campaign.state().counts.reports == 1
    plain = visit.client.post("/label", data=fields, follow_redirects=False)
    assert (plain.status_code, plain.headers["location"]) == (303, "/label?note=saved")


def test_two_windows_show_one_pair_and_the_first_answer_stands(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    windows = [visit.client.get("/label").text for _ in range(2)]
    pairs = [fields_of(page)["pair"] for page in windows]
    assert pairs[0] == pairs[1]
    good = visit.side_of_good()
    assert "Saved" in visit.label(good, page=windows[0]).text
    assert "had your answer already" in visit.label(RIGHTMOST - good, page=windows[1]).text
    assert reports(campaign) == [1.0]


def test_skip_brings_another_pair_and_writes_no_report(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    before = fields_of(visit.client.get("/label").text)["pair"]
    page = visit.label(action="skip")
    assert "Skipped" in page.text
    assert fields_of(page.text)["pair"] != before
    assert campaign.state().counts.reports == 0


def test_undo_shows_the_pair_again_and_the_new_answer_replaces_the_old(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    assert "Undo" not in visit.client.get("/label").text
    good = visit.side_of_good()
    first = fields_of(visit.client.get("/label").text)["pair"]
    page = visit.label(RIGHTMOST - good)
    assert "Undo the last answer" in page.text
    page = visit.label(action="undo")
    assert "Taken back" in page.text
    assert fields_of(page.text)["pair"] == first
    assert "Undo" not in page.text
    visit.label(good)
    assert reports(campaign) == [1.0]
    assert fields_of(visit.client.get("/label").text)["pair"] != first


def test_an_answer_in_a_complete_pair_cannot_be_taken_back(tmp_path: Path) -> None:
    visit = Visit(small_campaign(tmp_path / "tea", reports_per_pair=1), "ann")
    visit.label(0)
    assert visit.campaign.state().counts.closed == 1
    assert "can no longer be changed" in visit.label(action="undo").text


@pytest.mark.parametrize(
    "change", [{"right": "81"}, {"right": "-1"}, {"right": "x"}, {"key": "short"}, {"shown": "nan"}]
)
def test_a_form_that_no_page_sends_is_refused(campaign: Campaign, change: dict[str, str]) -> None:
    visit = Visit(campaign, "ann")
    fields = fields_of(visit.client.get("/label").text) | {"action": "report"} | change
    assert visit.client.post("/label", data=fields).status_code == 422
    assert campaign.state().counts.reports == 0


@pytest.mark.parametrize(
    ("seconds", "spent"), [("12.5", 12.5), ("-3", 0.0), ("nan", 0.0), ("inf", 3600.0), ("1e9", 3600)]
)
def test_time_is_what_the_browser_saw(seconds: str, spent: float) -> None:
    form = JudgeForm(csrf="c", key="k" * 16, pair="p", shown=0.0, seconds=seconds)
    assert form.time_spent() == spent


def test_without_scripts_time_is_counted_from_the_page(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = Visit(campaign, "ann")
    page = visit.client.get("/label").text
    shown = float(fields_of(page)["shown"])
    monkeypatch.setattr("truthful_rlhf.pipeline.live.web.pages.time.time", lambda: shown + 95.0)
    assert "1 min spent" in visit.label(0, page=page).text
    assert campaign.state().labelers[0].seconds == pytest.approx(95.0)


def test_progress_and_the_end(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    for k in range(8):
        assert f"{k} of 8 done" in visit.client.get("/label").text
        visit.label(0)
    assert "Nothing to judge now" in visit.client.get("/label").text


def test_an_expert_sees_complete_pairs_that_were_drawn_and_no_reports(tmp_path: Path) -> None:
    campaign = small_campaign(tmp_path / "tea", audit_rate=1.0, reports_per_pair=1)
    expert = Visit(campaign, "expert")
    assert "Nothing to check now" in expert.client.get("/expert").text
    visit = Visit(campaign, "ann")
    visit.label(0)
    page = expert.client.get("/expert").text
    good_is_left = page.index("good answer") < page.index("bad answer")
    assert "Saved" in expert.check("left" if good_is_left else "right").text
    assert "Nothing to check now" in expert.client.get("/expert").text
    state = campaign.state()
    assert state.rounds.outcome.tolist() == [1.0]
    assert state.counts.answered == 1
    visit.label(0)
    expert.check("unknown")
    assert campaign.state().counts.answered == 2
    assert campaign.state().rounds.outcome.tolist()[0] == 1.0


def test_an_expert_must_choose(campaign: Campaign) -> None:
    expert = Visit(campaign, "expert")
    token = re.search(r'name="csrf" value="(\w+)"', expert.client.get("/expert").text)
    assert token is not None
    fields = {"csrf": token.group(1), "key": "k" * 16, "pair": "p0", "shown": "0"}
    assert expert.client.post("/expert", data=fields).status_code == 422
    assert "not on your list" in expert.client.post("/expert", data=fields | {"pair": "no", "answer": "left"}).text


def test_a_paused_labeler_gets_nothing_and_gives_nothing(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    page = visit.client.get("/label").text
    campaign.pause("ann", "k")
    assert "paused" in visit.label(0, page=page).text
    assert "Nothing to judge now" in visit.client.get("/label").text
    assert campaign.state().counts.reports == 0


# ---- programs


def test_a_program_judges_by_json(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    visit.client.cookies.clear()
    visit.client.headers["Authorization"] = f"Bearer {visit.token}"
    task = visit.client.post("/api/next").json()
    assert set(task) == {"pair_id", "prompt", "left", "right", "topic", "done", "total"}
    assert task == visit.client.post("/api/next").json()
    good_is_left = task["left"].startswith("good")
    said = {"pair_id": task["pair_id"], "left_is_better": 0.9 if good_is_left else 0.1, "seconds": 2, "key": "k" * 8}
    receipts = [visit.client.post("/api/report", json=said).json() for _ in range(2)]
    assert receipts == [{"accepted": True, "reason": None}] * 2
    assert reports(campaign) == pytest.approx([0.9])
    again = visit.client.post("/api/report", json=said | {"key": "other-key"}).json()
    assert again == {"accepted": False, "reason": "answered"}
    task = visit.client.post("/api/next").json()
    skip = {"pair_id": task["pair_id"], "left_is_better": None, "key": "k" * 9}
    assert visit.client.post("/api/report", json=skip).json()["accepted"]
    assert campaign.state().labelers[0].skipped == 1
    for wrong in ({"left_is_better": 1.5}, {"left_is_better": "NaN"}, {"seconds": -1}, {"key": ""}, {"more": 1}):
        assert visit.client.post("/api/report", json=said | wrong).status_code == 422


def test_an_alias_is_understood_by_another_server_and_after_a_restart(campaign: Campaign) -> None:
    visit = Visit(campaign, "ann")
    page = visit.client.get("/label").text
    other = Visit(Campaign.open(campaign.folder), None)
    other.client.cookies = visit.client.cookies
    assert "Saved" in other.label(0, page=page).text


# ---- what is said and shown


def test_what_is_said_about_influence_is_true_of_the_rule(tmp_path: Path) -> None:
    def said(name: str, **settings: object) -> str:
        return " ".join(why_it_pays(small_campaign(tmp_path / name, **settings)))

    assert "exactly what you believe" in said("a")
    assert "influence on the result grows" in said("a2")
    assert "exactly" not in said("b", stop_at=0.9)
    assert "influence on the result grows" in said("b2", stop_at=0.9)
    assert "exactly" not in said("c", rule="hedge")
    assert "influence" not in said("d", rule="mean")
    assert "influence" not in said("e", audit_rate=0.0)


def test_texts_are_shown_as_typed_or_as_markdown(tmp_path: Path) -> None:
    text = "**loud** <i>x</i>"
    typed = Visit(small_campaign(tmp_path / "a", text=text), "ann").client.get("/label").text
    assert "**loud** &lt;i&gt;x&lt;/i&gt;" in typed
    assert 'class="text as-typed"' in typed
    formatted = Visit(small_campaign(tmp_path / "b", text=text, markdown=True), "ann").client.get("/label").text
    assert "<strong>loud</strong> &lt;i&gt;x&lt;/i&gt;" in formatted
    assert "as-typed" not in formatted


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("![x](http://a/b.png)", "<p>![x](http://a/b.png)</p>"),
        ("<http://a.b>", "<p>&lt;http://a.b&gt;</p>"),
        ("# h\n###### k", "<h3>h</h3>\n<h6>k</h6>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("```html\n<script>\n```", "<pre><code>&lt;script&gt;\n</code></pre>"),
        ("~~no~~", "<p><s>no</s></p>"),
    ],
)
def test_markdown_by_hand(text: str, html: str) -> None:
    assert as_html(text, markdown=True).strip() == html
