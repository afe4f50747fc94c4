"""What the terminal shows: names in brackets are no markup, and no name moves the cursor or clears the screen."""

from __future__ import annotations

import time

import pytest

from tests.hostile.harness import Sandbox
from tests.hostile.tables import encoded, good_rows

NAMES = [
    "[/bold]",
    "[bold red]",
    "[link=https://example.com]x[/link]",
    "\x1b[2J\x1b[H",
    "\x9b2J",
    "a\rb\x08\x07",
    "\u202egnp",
]


@pytest.mark.parametrize("command", ["aggregate", "audit", "audit-plan"])
def test_names_are_shown_as_they_are(sandbox: Sandbox, command: str) -> None:
    rows = good_rows(40, NAMES)
    for row in rows:  # some flip: then findings and warnings name them
        row["report"] = float(row["outcome"] != (NAMES.index(row["labeler_id"]) % 2))
        if command == "audit-plan":
            row["outcome"] = None
    sandbox.write("[x]votes.jsonl", encoded(rows, "jsonl"))
    out = "out/[/y].csv" if command == "audit-plan" else "out"
    options = {"audit": ["rules=[mean]", "splits=1"], "audit-plan": ["--budget", "10"]}.get(command, [])
    result = sandbox.run(command, "[x]votes.jsonl", *options, "--out", out)
    assert result.exit_code == 0, result.output
    assert not set(result.output) & set("\x1b\x9b\r\x08\x07\u202e"), "control characters reach the terminal"
    assert "[/bold]" in result.output, "each names a labeler, with its brackets"


@pytest.mark.parametrize("command", ["validate", "simulate"])
@pytest.mark.parametrize("key", ["seeds", "rules", "panels"])
def test_a_billion_laughs_are_refused_at_once(sandbox: Sandbox, command: str, key: str) -> None:
    """Nine aliases of ten: a file of 500 bytes that would be a text of gigabytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    sandbox.write("c.yaml", "\n".join([*lines, f"{key}: *a8"]))
    began = time.monotonic()
    out = [] if command == "validate" else ["--out", "out"]
    sandbox.refuse([command, "c.yaml", *out], "ConfigError", "c.yaml")
    assert time.monotonic() - began < 5
