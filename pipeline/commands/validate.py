"""``truthful-rlhf validate``: check a config before any work starts."""

from __future__ import annotations

from truthful_rlhf.pipeline.commands.compare import ConfigArgument, OverridesArgument


def validate(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Check a config and everything it needs (libraries, model, prompts, a file of pairs), and say what would run.

    Where the libraries that train are not installed, it checks the config itself and says the line that installs them.

    Examples:

        truthful-rlhf validate configs/quickstart.yaml

        truthful-rlhf validate quickstart policy.beta=0.5
    """
    from truthful_rlhf.aggregation.extras import MissingExtraError
    from truthful_rlhf.pipeline.config.experiment import load_config
    from truthful_rlhf.pipeline.experiment.context import N_FOLDS
    from truthful_rlhf.pipeline.experiment.grid import groups
    from truthful_rlhf.pipeline.experiment.pairs import read_recorded_file
    from truthful_rlhf.pipeline.experiment.prompts import load_prompts
    from truthful_rlhf.pipeline.experiment.session import EXPECTED_ERRORS
    from truthful_rlhf.pipeline.models.installed import check_extras, check_hardware, check_installed
    from truthful_rlhf.pipeline.models.load import load_tokenizer, resolve_model
    from truthful_rlhf.pipeline.models.tokens import Encoder
    from truthful_rlhf.pipeline.storage.console import clear_errors, console, shown
    from truthful_rlhf.pipeline.storage.random import part_rng
    from truthful_rlhf.pipeline.training.check import check_own_arguments

    with clear_errors(*EXPECTED_ERRORS):
        checked = load_config(config, overrides or [])
        check_installed(checked.policy, checked.sampling)
        try:
            check_extras(checked)
        except MissingExtraError as error:
            note = f"Note: {error}"
        else:
            note = ""
            resolve_model(checked.model.name_or_path)
            hardware = check_hardware(checked.model)
            check_own_arguments(checked.policy, checked.sampling, hardware)
        if checked.pairs.file is not None:
            read_recorded_file(checked.pairs.file, checked.pairs.read)
        if not checked.gold.is_known:
            names = ", ".join(rule.title for rule in checked.rules)
            summary = f"{len(checked.seeds)} seed(s) x {N_FOLDS} folds of {checked.pairs.file}: {names}"
            console.print(shown(f"{config} is valid: {summary}"), soft_wrap=True)
            return
        section = checked.prompts
        if not (note and section.source.startswith("hub:")):
            train, held_out = load_prompts(
                section.source, section.column, section.n_train, section.n_held_out, part_rng(0, "prompts")
            )
            prompts = [*train, *held_out]
            if not note and (checked.model.chat or any(prompt.messages for prompt in prompts)):
                encoder = Encoder(load_tokenizer(checked.model.name_or_path), checked.model.chat, checked.model.system)
                for prompt in prompts:
                    encoder.prompt(prompt.written)
        grid = groups(checked)
        console.print(f"{config} is valid: {len(checked.seeds)} seed(s) x {len(grid)} conditions")
        for group in grid:
            method = f", {group.method}" if group.method else ""
            console.print(f"  {group.panel}: {group.title}{method}", highlight=False)
        if note:
            console.print(note, style="yellow", soft_wrap=True)  # the line can be copied
