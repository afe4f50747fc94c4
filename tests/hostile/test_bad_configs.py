"""Configs and prompts files that have to be refused with the file, the key and the nearest valid choice."""

from __future__ import annotations

import json

import pytest

from tests.hostile.harness import Sandbox
from tests.hostile.tables import encoded, good_rows

RUN = """
model: {name_or_path: model}
prompts: {source: prompts.jsonl, n_train: 4, n_held_out: 2}
panels:
  honest:
    - {name: honest, count: 3, persona: noisy}
rules: [mean]
policy: {method: dpo}
"""
SIMULATE = "{rounds: [100], rules: [mean], panels: [honest]}"
AUDIT = "{rules: [mean], panels: [honest], objectives: [taste], strategies: [flip]}"

# Whole files: (content, text of the message)
FILES: list[tuple[bytes, str]] = [
    (b"", "expected a mapping of sections, got NoneType"),
    (b"---\n---\n", "c.yaml"),
    (b"- mean\n", "expected a mapping of sections, got list"),
    (b"mean\n", "expected a mapping of sections, got str"),
    (b"\xff\xfe\x00", "c.yaml"),
    (b"caf\xe9: 1\n", "c.yaml"),
    (b"a: [\n", "c.yaml"),
    (b"a: 'x\n", "c.yaml"),
    (b"\tseeds: [0]\n", "c.yaml"),
    (b"seeds: [0]\nseeds: [1]\n", "line 2: key 'seeds' is given twice"),
    (b"panels: {a: [{name: a, name: b}]}\n", "key 'name' is given twice"),
    (b"? [1, 2]\n: x\n", "c.yaml"),
    (b"? {a: b}\n: x\n", "c.yaml"),
    (b"1: x\n", "1: Keys should be strings"),
    (b"a: &a [*a]\n", "c.yaml"),
    (b"a: *nothing\n", "c.yaml"),
    (b"<<: [1]\n", "c.yaml"),
    (b"a: !!python/object/apply:os.system ['mkdir unpickled']\n", "could not determine a constructor"),
    (b"a: !!python/name:os.system\n", "could not determine a constructor"),
    (b"a: !!python/module:os\n", "could not determine a constructor"),
    (b"a: !ENV ${HOME}\n", "could not determine a constructor"),
    (b"a: !!binary '*'\n", "c.yaml"),
    (b"a: !!timestamp x\n", "c.yaml"),
    (b"a: 2024-99-99\n", "c.yaml"),
    (b"a: !!int x\n", "c.yaml"),
    (b"a: !!float x\n", "c.yaml"),
    (b"[" * 3000, "c.yaml"),
    (b"a: " + b"{a: " * 3000, "c.yaml"),
    (b"\x1b[2J: 1\n", "c.yaml"),
    (b'"\\e[2J": 1\n', "\\x1b[2J: unknown key"),
    (b"seeds: [0]\n", "panels: Field required"),
]

# Changes of the run config above: (override, text of the message)
OVERRIDES: list[tuple[str, str]] = [
    # the form of an override
    ("seeds", "not of the form key.sub=value"),
    ("=1", "not of the form key.sub=value"),
    ("seeds.x=1", "seeds: Input should be a valid list"),
    ("rules.0=median", "'rules'"),
    ("..=1", "unknown key"),
    ("policy.beta={", "not valid YAML"),
    ("policy.beta=!!python/name:os.system", "not valid YAML"),
    ("gold.kappa=2024-99-99", "not valid YAML"),
    ("gold=5", "gold"),
    ("__class__=1", "__class__: unknown key"),
    ("model_config=1", "model_config: unknown key"),
    # names
    ("sed=[0]", "did you mean 'seeds'?"),
    ("panels.honest=[{nme: a, persona: noisy}]", "did you mean 'name'?"),
    ("gold.kapa=1", "gold.kapa: unknown key (did you mean 'kappa'?"),
    ("policy.betta=1", "did you mean 'beta'?"),
    ("policy.method=dop", "policy"),
    ("policy.method=null", "policy"),
    ("policy.method=[dpo]", "policy"),
    ("policy=dpo", "policy"),
    ("policy=null", "policy"),
    ("rules=[men]", "did you mean 'mean'?"),
    ("rules=[null]", "rules"),
    ("rules=[[mean]]", "rules"),
    ("rules=mean", "rules"),
    ("rules=[]", "rules"),
    ("rules=[5]", "rules"),
    ("rules=[{name: [mean]}]", "rules"),
    ("rules=[{name: online_weighted, options: {etta: 1}}]", "did you mean 'eta'?"),
    ("rules=[{name: online_weighted, options: {eta: [1]}}]", "eta must be"),
    ("rules=[{name: online_weighted, options: {eta: .inf}}]", "eta must be"),
    ("rules=[{name: online_weighted, options: {fixed_share: 1}}]", "fixed_share must be in [0, 1)"),
    ("rules=[{name: online_weighted, options: {fixed_share: a}}]", "fixed_share"),
    ("rules=[{name: online_weighted, options: {n_labelers: 5}}]", "n_labelers"),
    ("rules=[{name: online_weighted, options: {1: 5}}]", "rules.0.options"),
    ("rules=[{name: trimmed_mean, options: {trim: x}}]", "rules.0"),
    ("rules=[{name: dawid_skene, options: {n_iter: x}}]", "n_iter"),
    ("rules=[{name: dawid_skene, options: {n_iter: 0}}]", "n_iter must be >= 1"),
    ("rules=[{name: examined, options: {seed: 0}}]", "valid: label, lotteries, secret"),
    ("rules=[{name: examined, options: {lotteries: 0}}]", "lotteries must be"),
    ("rules=[{name: online_weighted, options: {label: mode}}]", "label must be one of mean, median"),
    ("rules=[{name: mean, labels: stacked}]", "a step from the weights of online_weighted"),
    ("rules=[{name: mean, labels: finale}]", "rules.0.labels"),
    ("rules=[{name: mean, loss: hrad}]", "rules.0.loss"),
    ("rules=[{name: mean, called: ../../x}]", "rules.0.called"),
    ("rules=[{name: mean, called: .}]", "rules.0.called"),
    ("rules=[{name: mean, called: ''}]", "rules.0.called"),
    ('rules=[{name: mean, called: "a\\nb"}]', "rules.0.called"),
    ('rules=[{name: mean, called: "a\\n"}]', "rules.0.called"),
    ("rules=[{name: mean, called: '<script>'}]", "rules.0.called"),
    ("rules=[{name: truth, options: {a: 1}}]", "the truth has no options"),
    ("rules=[mean, mean]", "two entries have the same name"),
    # numbers
    ("seeds=[]", "seeds"),
    ("seeds=[-1]", "seeds.0"),
    ("seeds=[0.5]", "seeds.0"),
    ("seeds=[a]", "seeds.0"),
    ("seeds=0", "seeds"),
    ("seeds=[0, 0]", "seeds"),
    ("audit_rate=1.1", "audit_rate"),
    ("audit_rate=.nan", "audit_rate"),
    ("audit_rate=-1", "audit_rate"),
    ("gold.kappa=.inf", "gold.kappa"),
    ("gold.kappa=.nan", "gold.kappa"),
    ("gold.kappa=0", "gold.kappa"),
    ("policy.beta=.inf", "beta"),
    ("policy.beta=.nan", "beta"),
    ("policy.epochs=.inf", "epochs"),
    ("policy.learning_rate=.inf", "learning_rate"),
    ("policy.learning_rate=-1", "learning_rate"),
    ("policy.batch_size=0", "batch_size"),
    ("policy.batch_size=1e400", "batch_size"),
    ("policy.report_to=[wandbb]", "report_to"),
    ("sampling.temperature=-1", "sampling.temperature"),
    ("sampling.temperature=.inf", "sampling.temperature"),
    ("sampling.temperature=.nan", "sampling.temperature"),
    ("sampling.top_p=2", "sampling.top_p"),
    ("sampling.max_new_tokens=0", "sampling.max_new_tokens"),
    ("prompts.n_train=0", "prompts.n_train"),
    ("prompts.n_held_out=1", "prompts.n_held_out"),
    ("pairs.responses_per_prompt=3", "pairs.responses_per_prompt"),
    ("evaluation.responses_per_prompt=0", "evaluation.responses_per_prompt"),
    # panels
    ("panels={}", "panels"),
    ("panels=[]", "panels"),
    ("panels={a: []}", "panels.a"),
    ("panels={a: [nosy]}", "did you mean 'noisy'?"),
    ("panels={a: [5]}", "panels.a"),
    ("panels={'../x': [noisy]}", "is not a valid name"),
    ("panels={'a/b': [noisy]}", "is not a valid name"),
    ("panels={'..': [noisy]}", "is not a valid name"),
    ("panels={'': [noisy]}", "is not a valid name"),
    ('panels={"a\\n": [noisy]}', "is not a valid name"),
    ("panels={'<script>': [noisy]}", "is not a valid name"),
    ("panels={shared: [noisy]}", "'shared' is not a valid name"),
    ("panels={a: [{name: ../b, persona: noisy}]}", "panels.a.0.name"),
    ('panels={a: [{name: "b\\n", persona: noisy}]}', "panels.a.0.name"),
    ("panels={a: [{name: '<img src=x>', persona: noisy}]}", "panels.a.0.name"),
    ("panels={a: [{name: b, persona: noisy, kind: judgge}]}", "did you mean 'judge'?"),
    ("panels={a: [{name: b}]}", "kind 'simulated' needs 'persona'"),
    ("panels={a: [{name: b, persona: noisy, count: 0}]}", "panels.a.0.count"),
    ("panels={a: [{name: b, persona: noisy, count: 1e9}]}", "panels.a.0.count"),
    ("panels={a: [{name: b, persona: noisy, count: 2}, {name: b-1, persona: noisy}]}", "b-1"),
    ("panels={a: [noisy, noisy]}", "noisy"),
    ("panels={a: [{name: b, persona: {noise: -1}}]}", "noise"),
    ("panels={a: [{name: b, persona: {noise: .nan}}]}", "noise"),
    ("panels={a: [{name: b, persona: {taste: {}}}]}", "at least one feature"),
    ("panels={a: [{name: b, persona: {taste: {lenght: 1}}}]}", "did you mean 'length'?"),
    ("panels={a: [{name: b, persona: {taste: {gold: .inf}}}]}", "gold"),
    ("panels={a: [{name: b, persona: {like: experrt}}]}", "did you mean 'expert'?"),
    ("panels={a: [{name: b, persona: {like: {like: {like: nobody}}}}]}", "unknown persona 'nobody'"),
    ("panels={a: [{name: b, persona: {like: [expert]}}]}", "a persona is a name or a mapping"),
    ("panels={a: [{name: b, persona: {1: 2}}]}", "1"),
    ("panels={a: [{name: b, persona: noisy, strategy: flipp}]}", "did you mean 'flip'?"),
    ("panels={a: [{name: b, persona: noisy, strategy: {scale: 4}}]}", "a strategy is a name or a mapping"),
    ("panels={a: [{name: b, persona: noisy, strategy: {name: exaggerate, scael: 4}}]}", "did you mean 'scale'?"),
    ("panels={a: [{name: b, persona: noisy, strategy: {name: exaggerate, scale: .nan}}]}", "scale must be"),
    ("panels={a: [{name: b, persona: noisy, strategy: {name: exaggerate, scale: x}}]}", "scale must be a number"),
    ("panels={a: [{name: b, persona: noisy, strategy: {name: topic_trigger}}]}", "needs the option 'topic'"),
    ("panels={a: [{name: b, persona: noisy, strategy: {name: best_response, objective: x}}]}", "objective must be"),
    ("panels={a: [{name: b, persona: noisy, strategy: {name: flip, 1: 2}}]}", "panels.a.0.strategy"),
    ("panels={a: [{name: b, persona: noisy, base_url: 'http://x/v1'}]}", "does not apply to kind 'simulated'"),
    ("panels={a: [{name: b, kind: remote_judge, model: m, base_url: 'file:///etc/passwd'}]}", "base_url must be"),
    ("panels={a: [{name: b, kind: remote_judge, model: m, base_url: 'http://[::1'}]}", "base_url"),
    ("panels={a: [{name: b, kind: remote_judge, model: m, base_url: 'http://u:pw@h/v1'}]}", "must not hold a key"),
    ("panels={a: [{name: b, kind: remote_judge, model: m, base_url: 'javascript:alert(1)'}]}", "base_url must be"),
    (
        "panels={a: [{name: b, kind: remote_judge, model: m, base_url: 'http://h/v1', api_key_env: sk-123456}]}",
        "api_key_env must be the name of an environment variable",
    ),
    ("panels={a: [{name: b, kind: remote_judge, model: m, base_url: 'http://h', timeout: .inf}]}", "timeout"),
    ("panels={a: [{name: b, kind: recorded}]}", "needs 'file'"),
    # what they name
    ("model.name_or_path=nowhere/at/all", "model folder nowhere/at/all does not exist"),
    ("model.name_or_path=..", "has no config.json"),
    ("model.name_or_path=''", "model"),
    ("prompts.source=nowhere.jsonl", "prompts file nowhere.jsonl does not exist"),
    ("prompts.source=''", "does not exist"),
    ("prompts.column=promt", "row 1: no key 'promt' (did you mean 'prompt'?"),
    ("prompts.n_train=5", "prompts.jsonl has 4 train prompts, the config asks for 5"),
]

GAME: list[tuple[str, str, str]] = [
    # command, override, text of the message
    ("simulate", "rounds=[0]", "campaign lengths must be >= 1"),
    ("simulate", "rounds=[]", "rounds"),
    ("simulate", "rounds=[1e400]", "rounds"),
    ("simulate", "max_rounds={men: 5}", "did you mean 'mean'?"),
    ("simulate", "max_rounds={mean: 0}", "max_rounds"),
    ("simulate", "seeds=0", "seeds"),
    ("simulate", "seed=-1", "seed"),
    ("simulate", "audit_rate=2", "audit_rate"),
    ("simulate", "panels=[honset]", "did you mean 'honest'?"),
    ("simulate", "panels=[]", "panels"),
    ("simulate", "panels={}", "panels"),
    ("simulate", "panels=5", "panels"),
    ("simulate", "panels=[honest, honest]", "the panel 'honest' stands twice"),
    ("simulate", "panels=['../x']", "unknown panel '../x'"),
    ("simulate", "panels=['../x.yaml']", "panel file ../x.yaml does not exist"),
    ("simulate", "panels=['.']", "unknown panel '.'"),
    ("simulate", "spread=.nan", "spread"),
    ("simulate", "spread=.inf", "spread"),
    ("simulate", "topics=[]", "topics"),
    ("simulate", "topics=[a, a]", "so must topics"),
    ("simulate", "rules=[mean, mean]", "must differ"),
    ("simulate", "rules=[truth]", "unknown rule 'truth'"),
    ("simulate", "panles=[honest]", "did you mean 'panels'?"),
    ("simulate", "panels={p: 5}", "panels.p"),
    ("simulate", "panels={'../../p': [expert]}", "'../../p' is not a valid name"),
    ("simulate", "panels={'/tmp/p': [expert]}", "'/tmp/p' is not a valid name"),
    ("audit", "panels={'<script>': [expert]}", "'<script>' is not a valid name"),
    ("audit", "panels={'$x_': [expert]}", "'$x_' is not a valid name"),
    ("audit", "objectives=[tase]", "objectives"),
    ("audit", "strategies=[fip]", "did you mean 'flip'?"),
    ("audit", "outcome_model=theirs", "outcome_model"),
    ("audit", "discount=1.5", "discount"),
    ("audit", "rounds=9", "rounds"),
    ("audit", "search=0", "search"),
    ("audit", "splits=0", "splits"),
]

# Panels without texts: (entries, text of the message)
CROWDS: list[tuple[str, str]] = [
    ("[]", "panels.p"),
    ("[exprt]", "did you mean 'expert'?"),
    ("[{name: x, persona: [expert]}]", "panels.p.0.persona"),
    ("[{name: x, persona: expert, count: 0}]", "panels.p.0.count"),
    ("[{name: x, persona: {noise: .nan}}]", "noise"),
    ("[{name: x, persona: {bias: .inf}}]", "bias"),
    ("[{name: x, persona: expert, strategy: {name: equilibrium, objective: tase}}]", "objective must be one of"),
    ("[{name: x, persona: expert, strategy: {name: topic_trigger, topic: filn}}]", "did you mean 'film'?"),
    ("[{name: x, persona: {taste: {gold: 1, politeness: 0.1}}}]", "a taste for politeness, which only texts have"),
    ("[{name: x, kind: recorded, file: f.csv}]", "kind 'recorded' reads texts or a file"),
]

PROMPTS: list[tuple[bytes, str]] = [
    (b"", "prompts.jsonl has 0 train prompts"),
    (b"[]\n", "prompts.jsonl row 1: expected an object"),
    (b"null\n", "prompts.jsonl row 1: expected an object"),
    (b'"x"\n', "prompts.jsonl row 1: expected an object"),
    (b'{"prompt": "x"}\n{"prompt"', "prompts.jsonl"),
    (b'{"prompt": "caf\xe9"}\n', "prompts.jsonl"),
    (b"\xff\xfe", "prompts.jsonl"),
    (b'{"prompt": ""}\n', "row 1: 'prompt' must be a text that is not empty"),
    (b'{"prompt": " \\n"}\n', "row 1: 'prompt' must be a text that is not empty"),
    (b'{"prompt": null}\n', "row 1: 'prompt' must be a text"),
    (b'{"prompt": ["x"]}\n', "row 1: every message of 'prompt' needs a 'role'"),
    (b'{"prompt": {"text": "x"}}\n', "row 1: 'prompt' must be a text"),
    (b'{"prompt": 5}\n', "row 1: 'prompt' must be a text"),
    (b'{"prompt": "\\ud800"}\n', "half of a surrogate pair"),
    (b'{"prompt": "x", "topic": "\\udfff"}\n', "half of a surrogate pair"),
    (b'{"prompt": "x", "topic": ["law"]}\n', "row 1: topic"),
    (b'{"promt": "x"}\n', "row 1: no key 'prompt' (did you mean 'promt'?"),
    (b"{}\n", "row 1: no key 'prompt'"),
    (b'{"prompt": "x", "split": "test"}\n', "row 1: split 'test' is not one of train, held_out"),
    (b'{"prompt": "x", "split": 5}\n', "row 1: split 5 is not one of"),
    (b'{"prompt": "x", "split": ["train"]}\n', "row 1: split"),
    (b"[" * 100_000, "prompts.jsonl"),
    (b'{"prompt": ' + b"9" * 5000 + b"}\n", "prompts.jsonl"),
    (b"\x80\x04\x95\x10\x00", "prompts.jsonl"),
    (b"PK\x03\x04", "prompts.jsonl"),
]


@pytest.fixture
def experiment(sandbox: Sandbox) -> Sandbox:
    """A run config, a prompts file and the folder of a model that is never loaded."""
    sandbox.write("c.yaml", RUN)
    sandbox.write("simulate.yaml", SIMULATE)
    sandbox.write("audit.yaml", AUDIT)
    sandbox.write("votes.jsonl", encoded(good_rows(), "jsonl"))
    sandbox.write("prompts.jsonl", "".join(json.dumps({"prompt": f"prompt {k}"}) + "\n" for k in range(6)))
    (sandbox.work / "model").mkdir()
    sandbox.write("model/config.json", "{}")
    return sandbox


def test_the_configs_that_are_spoilt_below_are_valid(experiment: Sandbox) -> None:
    result = experiment.run("validate", "c.yaml")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", ["validate", "simulate"])
@pytest.mark.parametrize(("content", "text"), FILES)
def test_a_file(experiment: Sandbox, command: str, content: bytes, text: str) -> None:
    experiment.write("c.yaml", content)
    out = [] if command == "validate" else ["--out", "out"]
    if text.startswith("panels: "):
        text = "Field required"
    experiment.refuse([command, "c.yaml", *out], "ConfigError", "c.yaml", text)
    assert not (experiment.work / "unpickled").exists()


def error_of(override: str) -> str:
    """Which error an override of ``OVERRIDES`` ends in."""
    if "n_train=0" in override or "n_held_out" in override:
        return "ConfigError"
    return {"model": "ModelNotFoundError", "prompts": "PromptsError"}.get(override.partition(".")[0], "ConfigError")


SOME = [*(case for case in OVERRIDES[::12] if error_of(case[0]) == "ConfigError"), OVERRIDES[-1]]


@pytest.mark.parametrize(("override", "text"), OVERRIDES)
def test_a_run(experiment: Sandbox, override: str, text: str) -> None:
    experiment.refuse(["validate", "c.yaml", override], error_of(override), text)


@pytest.mark.parametrize("command", ["compare", "run"])
@pytest.mark.parametrize(("override", "text"), SOME)
def test_compare_and_run_say_the_same_as_validate(experiment: Sandbox, command: str, override: str, text: str) -> None:
    experiment.refuse([command, "c.yaml", override, "--out", "out"], error_of(override), text)
    if error_of(override) == "ConfigError":  # prompts are read by the first stage, when the run folder stands already
        assert not experiment.out.exists()
    assert not list(experiment.out.rglob("*.parquet"))


@pytest.mark.parametrize(("command", "override", "text"), GAME)
def test_a_game(experiment: Sandbox, command: str, override: str, text: str) -> None:
    experiment.refuse([command, f"{command}.yaml", override, "--out", "out"], "ConfigError", text)
    assert not experiment.out.exists()


@pytest.mark.parametrize(("entries", "text"), CROWDS)
def test_a_panel_without_texts(experiment: Sandbox, entries: str, text: str) -> None:
    experiment.refuse(["simulate", "simulate.yaml", f"panels={{p: {entries}}}", "--out", "out"], "ConfigError", text)


@pytest.mark.parametrize(("content", "text"), PROMPTS)
def test_prompts(experiment: Sandbox, content: bytes, text: str) -> None:
    experiment.write("prompts.jsonl", content)
    experiment.refuse(["validate", "c.yaml"], "PromptsError", text)
