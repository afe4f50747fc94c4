"""The command ``truthful-rlhf``: registers the commands and turns expected errors into one clear line."""

from __future__ import annotations

import importlib

import typer

app = typer.Typer(
    name="truthful-rlhf",
    help="RLHF for labelers who have interests of their own.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

COMMANDS = ("compare", "run", "validate", "judge", "aggregate", "audit_plan", "simulate", "audit")
GROUPS = ("campaign",)
"""Commands that have commands of their own."""

for _name in COMMANDS:
    _module = importlib.import_module(f"truthful_rlhf.pipeline.commands.{_name}")
    app.command(_name.replace("_", "-"))(getattr(_module, _name))
for _name in GROUPS:
    app.add_typer(importlib.import_module(f"truthful_rlhf.pipeline.commands.{_name}").app, name=_name)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
