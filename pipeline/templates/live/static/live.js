// Keys, the time spent, and no reload. Without this file the pages are plain forms and do the same.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  let sending = false;
  let active = 0; // milliseconds that the pair was in sight, up to `since`
  let since = null; // null: out of sight

  const inSight = () => active + (since === null ? 0 : performance.now() - since);
  const look = () => { since = document.hidden ? null : performance.now(); };
  document.addEventListener("visibilitychange", () => { active = inSight(); look(); });

  const keysAreOn = () => { try { return localStorage.getItem("keys") !== "off"; } catch { return true; } };

  function words(slider) {
    const right = slider.value / slider.max;
    if (right === 0.5) return "Tie: neither is better";
    if (right === 0) return "Surely left";
    if (right === 1) return "Surely right";
    return right < 0.5 ? `Left is better, ${Math.round(100 * (1 - right))} % sure` : `Right is better, ${Math.round(100 * right)} % sure`;
  }

  function tell() {
    const slider = byId("right");
    if (!slider) return;
    slider.setAttribute("aria-valuetext", words(slider));
    byId("said").textContent = words(slider);
  }

  function ready() {
    active = 0;
    look();
    tell();
    const box = byId("keys-on");
    if (box) {
      box.checked = keysAreOn();
      box.addEventListener("change", () => { try { localStorage.setItem("keys", box.checked ? "on" : "off"); } catch { /* for this page only */ } });
    }
  }

  function note(text, bad) {
    byId("note").textContent = text;
    byId("note").className = bad ? "note bad" : "note";
  }

  function show(html, address) {
    const page = new DOMParser().parseFromString(html, "text/html");
    byId("main").replaceWith(document.adoptNode(page.getElementById("main")));
    const told = page.getElementById("note");
    note(told ? told.textContent : "", told !== null && told.classList.contains("bad"));
    document.title = page.title;
    history.replaceState(null, "", address);
    ready();
    scrollTo(0, 0);
    document.querySelector("main h1").focus();
  }

  // The key in the form makes a second arrival of the same answer harmless, so it is sent until it has arrived.
  async function send(form, button) {
    if (sending) return;
    sending = true;
    const fields = new URLSearchParams(new FormData(form));
    if (button && button.name) fields.set(button.name, button.value);
    fields.set("seconds", (inSight() / 1000).toFixed(1));
    const controls = [...form.elements].filter((one) => !one.disabled);
    controls.forEach((one) => { one.disabled = true; });
    try {
      for (let wait = 1000; ; wait = Math.min(2 * wait, 15000)) {
        const answer = await fetch(form.getAttribute("action"), { method: "POST", body: fields, headers: { "X-Page": "1" }, signal: AbortSignal.timeout(30000) }).catch(() => null);
        if (answer && answer.status !== 503 && answer.status !== 429) {
          const html = await answer.text().catch(() => null);
          if (html !== null) { show(html, answer.url); return; }
        }
        note("Not saved yet: the server does not answer. Your answer is sent again until it has arrived; leave this page open.", true);
        await pause(wait);
      }
    } finally {
      sending = false;
      controls.forEach((one) => { one.disabled = false; });
    }
  }

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "judge") return;
    event.preventDefault();
    send(event.target, event.submitter);
  });
  document.addEventListener("input", (event) => { if (event.target.id === "right") tell(); });

  function choose(key) {
    const slider = byId("right");
    if (slider && /^[1-9]$/.test(key)) slider.value = (slider.max * (key - 1)) / 8;
    else if (slider && key === "ArrowLeft") slider.value -= slider.max / 20;
    else if (slider && key === "ArrowRight") slider.value = Number(slider.value) + slider.max / 20;
    else if (!slider && /^[1-3]$/.test(key)) byId("judge").querySelectorAll("input[type=radio]")[key - 1].checked = true;
    else return false;
    tell();
    return true;
  }

  const BUTTONS = { Enter: "button.main", s: "button[value=skip]", u: "button[value=undo]" };
  document.addEventListener("keydown", (event) => {
    const form = byId("judge");
    if (!form || sending || event.ctrlKey || event.altKey || event.metaKey || !keysAreOn()) return;
    if (event.key === "Enter" && event.target.matches("button, a, summary, input[type=checkbox]")) return;
    if (event.key.startsWith("Arrow") && event.target.matches("input[type=radio]")) return;
    const button = BUTTONS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (choose(event.key)) event.preventDefault();
    else if (button && !event.repeat) {
      event.preventDefault();
      const found = form.querySelector(button);
      if (found) form.requestSubmit(found);
    }
  });

  ready();
})();
