"""Configs: every mistake is named with its file, its key and the nearest valid choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from truthful_rlhf.pipeline.config.experiment import load_config
from truthful_rlhf.pipeline.config.loading import ConfigError, find_config

MINIMAL = """
panels:
  honest:
    - {name: honest, count: 3, persona: noisy}
rules: [mean]
policy: {method: dpo}
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_minimal_config_has_sensible_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.model.name_or_path == "bundled"
    assert config.seeds == [0]
    assert [rule.title for rule in config.rules] == ["mean"]


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("audit_rte: 0.2", r"audit_rte: unknown key .did you mean 'audit_rate'\?"),
        ("gold: {kapa: 2}", r"gold\.kapa: unknown key .did you mean 'kappa'\?"),
        ("audit_rate: 1.5", r"audit_rate: .*less than or equal to 1"),
        ("pairs: {responses_per_prompt: 3}", r"pairs\.responses_per_prompt: .*multiple of 2"),
        ("gold: {kappa: .nan}", r"gold\.kappa"),
        ("seeds: []", r"seeds: .*at least 1"),
        ("prompts: {n_train: many}", r"prompts\.n_train: .*integer"),
        ("rules: [mean]", "key 'rules' is given twice"),
        ("sampling: {top_p: 0.9}\npolicy: {method: ppo}", r"sampling\.top_p: TRL's PPO cannot .* set it to 1, .* 0\.9"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_nearest_choice(tmp_path: Path, addition: str, message: str) -> None:
    given = MINIMAL.replace("policy: {method: dpo}\n", "") if "policy:" in addition else MINIMAL
    path = write(tmp_path, given + addition + "\n")
    with pytest.raises(ConfigError, match=message) as error:
        load_config(path)
    assert "c.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.betta=1", r"policy\.betta: unknown key .did you mean 'beta'\?"),
        ("policy.method=dop", r"policy"),
        ("rules=[onlin_weighted]", r"did you mean 'online_weighted'\?"),
        (
            "rules=[{name: online_weighted, options: {etta: 0.1}}]",
            r"unknown option of rule 'online_weighted': 'etta': did you mean 'eta'\?",
        ),
        ("rules=[{name: online_weighted, options: {eta: 3}}]", r"eta must be"),
        (
            "rules=[{name: online_weighted, options: {initial_weights: [1, 2, 3, 4, 5]}}]",
            r"has 5 initial_weights, panel '.*' has \d+ labelers",
        ),
        ("rules=[{name: online_weighted, options: {initial_weights: [1, 0]}}]", r"labeler 1 has 0.0"),
        ("rules=[mean, mean]", r"two entries have the same name"),
        ("panels.shared=[{name: a, persona: noisy}]", r"'shared' is not a valid name"),
        ("panels.a/b=[{name: a, persona: noisy}]", r"not a valid name"),
        ("seeds", r"not of the form key.sub=value"),
        ("seeds.sub=1", r"'seeds' is not a section|unknown key|seeds"),
        ("policy.beta={", r"not valid YAML"),
    ],
)
def test_a_mistaken_override_is_explained(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, MINIMAL), [override])


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), ["policy.beta=0.5", "rules=[mean, {name: median}]", "seeds=[1, 2]"])
    assert config.policy[0].beta == 0.5
    assert [rule.name for rule in config.rules] == ["mean", "median"]
    assert config.seeds == [1, 2]


def test_a_shipped_config_is_found_by_name_and_a_near_miss_is_named() -> None:
    assert find_config("quickstart").name == "quickstart.yaml"
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        find_config("quikstart")


@pytest.mark.parametrize("text", ["[1, 2]", "just text", "a: [", "\x00"])
def test_what_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(write(tmp_path, text))


def test_yaml_tags_are_never_executed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, "seeds: !!python/object/apply:os.system ['touch /tmp/pwned']"))


def test_a_mistake_names_its_key_whatever_the_method() -> None:
    shipped = Path(__file__).resolve().parents[3] / "configs" / "online_dpo.yaml"
    with pytest.raises(ConfigError, match=r"policy\.iteratons: unknown key .did you mean 'iterations'"):
        load_config(str(shipped), ["policy.iteratons=1"])
