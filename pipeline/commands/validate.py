"""``truthful-rlhf validate``: check a config before any work starts."""

from __future__ import annotations

from pipeline.commands.compare import ConfigArgument, OverridesArgument


def validate(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Check a config and everything it needs (model, prompts), and say what would run.

    Examples:

        truthful-rlhf validate configs/quickstart.yaml

        truthful-rlhf validate quickstart policy.beta=0.5
    """
    from pipeline.config import load_config
    from pipeline.console import clear_errors, console
    from pipeline.experiment import EXPECTED_ERRORS
    from pipeline.grid import groups
    from pipeline.model import resolve_model
    from pipeline.pairs import part_rng
    from pipeline.prompts import load_prompts

    with clear_errors(*EXPECTED_ERRORS):
        checked = load_config(config, overrides or [])
        resolve_model(checked.model.name_or_path)
        section = checked.prompts
        load_prompts(section.source, section.column, section.n_train, section.n_held_out, part_rng(0, "prompts"))
        grid = groups(checked)
        console.print(f"{config} is valid: {len(checked.seeds)} seed(s) x {len(grid)} conditions")
        for group in grid:
            method = f", {group.method}" if group.method else ""
            console.print(f"  {group.panel}: {group.title}{method}", highlight=False)
