"""What soft labels cost, and what the CPU settings save: DPO and reward-model training beside stock TRL.

Every variant trains the same LoRA adapter on the same pairs of SmolLM2 responses, in a process of its own, in the same
order of pairs. "TRL's defaults" are those of its configs (bfloat16 autocast, gradient checkpointing) and ``use_cpu``:
they refuse to start without a GPU otherwise. Reference log-probabilities are computed at every step, as stock TRL
does, but in the last variant, which trains as the pipeline does: they are computed before, once for all conditions.

*Share of peak*: the matrix products that the tokens need, padding not counted, as a share of what the same thread does
in one large product, in the faster of float32 and bfloat16. Adapters, attention, softmax and memory are the rest.
Sampling reads all weights for every token of a batch and is far from it by nature.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ABOUT = "DPO and reward-model training with soft labels beside stock TRL, SmolLM2 (about 8 minutes)"

N_PROMPTS, BATCH, N_UPDATES, N_ROUNDS = 32, 8, 8, 2
VARIANTS = ("TRL, its own defaults", "TRL, our settings", "ours, soft labels")
SHARED = "ours, soft labels, reference computed beforehand"
TASKS = {"dpo": (*VARIANTS, SHARED), "reward model": VARIANTS, "sampling": (VARIANTS[2],)}
PASSES = {"dpo": 3, "reward model": 2, "sampling": 1}
"""Forward passes' worth of products per token: forward and backward to the activations, and DPO's reference."""
PARAMETERS, VOCABULARY = 134.5e6, 49_152 * 576
"""Of SmolLM2-135M; the second are those of the projection to the vocabulary, which a reward model has not."""


def run() -> pd.DataFrame:
    """Return speed, peak memory and losses of every variant, and its speed relative to TRL's defaults."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.json"
        in_a_process("benchmarks.training", "pairs", str(pairs))
        # Interleaved, so that a slow spell of the machine hits all variants.
        peak = in_a_process("benchmarks.training", "peak")["products per second"]
        results = [
            in_a_process("benchmarks.training", "train", task, variant, str(pairs), folder)
            for task in TASKS
            for _ in range(N_ROUNDS)
            for variant in TASKS[task]
        ]
    table = pd.DataFrame(results).groupby(["task", "variant"], sort=False)
    best = table.agg({"tokens per second": "max", "peak MB": "max", "first loss": "first", "last loss": "first"})
    best = best.reset_index()
    base = best[best["variant"] == VARIANTS[0]].set_index("task")["tokens per second"]
    best["times TRL's defaults"] = best["tokens per second"] / best["task"].map(base)
    best["share of peak"] = [
        rate * products_per_token(task, variant) / peak
        for rate, task, variant in best[["tokens per second", "task", "variant"]].itertuples(index=False)
    ]
    return best


def products_per_token(task: str, variant: str) -> float:
    """Return the multiplications with additions that a token needs in matrix products with the model's weights."""
    weights = PARAMETERS - VOCABULARY if task == "reward model" else PARAMETERS
    return weights * (PASSES[task] - (variant == SHARED))


def in_a_process(module: str, *arguments: str, without: Collection[str] = ()) -> dict[str, Any]:
    """Return what a module prints as JSON on its last line, run without some variables of the environment."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _write_pairs(path: Path) -> dict[str, Any]:
    """Sample two responses per bundled prompt and label them by their gold reward."""
    from truthful_rlhf.pipeline.config.training import SamplingSettings
    from truthful_rlhf.pipeline.experiment.prompts import load_prompts
    from truthful_rlhf.pipeline.models.generate import sample_responses
    from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer
    from truthful_rlhf.pipeline.models.tokens import Encoder
    from truthful_rlhf.reward_model.gold import VaderGold, true_preference

    prompts = [p.text for p in load_prompts("bundled", "prompt", N_PROMPTS, 1, np.random.default_rng(0))[0]]
    repeated = [prompt for prompt in prompts for _ in range(2)]
    sampling, tokenizer = SamplingSettings(max_new_tokens=24), load_tokenizer("bundled")
    encoded = [Encoder(tokenizer).prompt(prompt) for prompt in repeated]
    responses = sample_responses(load_model("bundled"), tokenizer, encoded, sampling, 0, "pairs")
    texts = [response.text for response in responses]
    gold = VaderGold().score(repeated, texts)
    p = true_preference(gold[0::2], gold[1::2], 5.0)
    first = p >= 0.5
    columns = {
        "prompt": prompts,
        "chosen": [a if a_better else b for a, b, a_better in zip(texts[0::2], texts[1::2], first, strict=True)],
        "rejected": [b if a_better else a for a, b, a_better in zip(texts[0::2], texts[1::2], first, strict=True)],
        "soft_label": np.maximum(p, 1 - p).tolist(),
    }
    path.write_text(json.dumps(columns), encoding="utf-8")
    return {}


def _peak(size: int = 1024, n_rounds: int = 20) -> dict[str, Any]:
    """Return the multiplications with additions per second of a large product in the faster of two precisions."""
    import torch

    fastest = float("inf")
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
        for _ in range(n_rounds):
            start = time.perf_counter()
            left @ right
            fastest = min(fastest, time.perf_counter() - start)
    return {"products per second": size**3 / fastest}


def _sample(pairs: Path) -> dict[str, Any]:
    """Sample responses of 24 tokens to the benchmark's prompts, twice; the first round warms up."""
    from truthful_rlhf.pipeline.config.training import SamplingSettings
    from truthful_rlhf.pipeline.models.generate import sample_responses
    from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer
    from truthful_rlhf.pipeline.models.tokens import Encoder

    model, tokenizer = load_model("bundled"), load_tokenizer("bundled")
    encoder = Encoder(tokenizer)
    prompts = [encoder.prompt(text) for text in json.loads(pairs.read_text(encoding="utf-8"))["prompt"]]
    for _ in range(2):
        start = time.perf_counter()
        responses = sample_responses(model, tokenizer, prompts, SamplingSettings(max_new_tokens=24), 0, "sampling")
        seconds = time.perf_counter() - start
    tokens = sum(map(len, prompts)) + sum(len(response.token_ids) for response in responses)
    return {
        "task": "sampling",
        "variant": VARIANTS[2],
        "tokens per second": tokens / seconds,
        "peak MB": _peak_mb(),
        "first loss": float("nan"),
        "last loss": float("nan"),
    }


def _train(task: str, variant: str, pairs: Path, folder: str) -> dict[str, Any]:
    """Train for ``N_UPDATES`` updates."""
    import transformers
    from datasets import Dataset
    from transformers import set_seed

    from truthful_rlhf.labelers.judges.hardware import Hardware

    transformers.logging.set_verbosity_error()
    set_seed(0)
    data = Dataset.from_dict(json.loads(pairs.read_text(encoding="utf-8")))
    lengths = _lengths(data)
    if variant not in (VARIANTS[2], SHARED):
        data = data.remove_columns("soft_label")
    if variant == SHARED:
        data = with_reference(data)
    trainer = make_trainer(task, variant, data, folder)
    with nullcontext() if variant == VARIANTS[0] else Hardware.choose().reading(max(lengths)):
        per_update = seconds_per_update(trainer)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "task": task,
        "variant": variant,
        "tokens per second": sum(lengths) / len(data) * BATCH / per_update,
        "peak MB": _peak_mb(),
        "first loss": losses[0],
        "last loss": losses[-1],
    }


def seconds_per_update(trainer: Any) -> float:
    """Train, and return the median time of an update; the first, which warms up, does not count."""
    from transformers import TrainerCallback

    moments: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # TRL and transformers are untyped
        def on_step_end(self, *arguments: Any, **kwargs: Any) -> None:
            moments.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    return float(np.median(np.diff(moments)))


def make_trainer(task: str, variant: str, data: Any, folder: str) -> Any:
    """Return the trainer of a task and variant, on the bundled model, for ``N_UPDATES`` updates."""
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    from truthful_rlhf.labelers.judges.hardware import Hardware
    from truthful_rlhf.pipeline.models.device import training_arguments
    from truthful_rlhf.pipeline.models.load import BasePolicy, load_model, load_tokenizer
    from truthful_rlhf.pipeline.models.lora import lora_config
    from truthful_rlhf.pipeline.training.reward import _fresh
    from truthful_rlhf.pipeline.training.soft_dpo import SoftDPOTrainer
    from truthful_rlhf.reward_model import SoftRewardTrainer

    ours = variant in (VARIANTS[2], SHARED)
    arguments: dict[str, Any] = {"output_dir": folder, "seed": 0, "max_steps": N_UPDATES, "logging_steps": 1}
    arguments |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments |= {"per_device_train_batch_size": BATCH, "learning_rate": 3e-4}
    if variant != VARIANTS[0]:
        arguments |= training_arguments(folder, Hardware.choose(), BATCH)
    if task == "dpo":
        return (SoftDPOTrainer if ours else DPOTrainer)(
            model=load_model("bundled"),
            args=DPOConfig(precompute_ref_log_probs=variant == SHARED, **arguments),
            train_dataset=data,
            processing_class=load_tokenizer("bundled"),
            peft_config=lora_config(16),
        )
    from truthful_rlhf.pipeline.models.load import resolve_model

    model, tokenizer = _fresh(BasePolicy.of(resolve_model("bundled")))
    return (SoftRewardTrainer if ours else RewardTrainer)(
        model=model,
        args=RewardConfig(**arguments),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora_config(16, task="SEQ_CLS", modules_to_save=["score"]),
    )


def with_reference(data: Any) -> Any:
    """Add the base policy's log-probabilities, which the pipeline computes once for all conditions."""
    from truthful_rlhf.pipeline.config.training import DPOSettings
    from truthful_rlhf.pipeline.models.load import load_tokenizer, resolve_model
    from truthful_rlhf.pipeline.models.tokens import Encoder, orient_tokens, with_token_ids
    from truthful_rlhf.pipeline.training.dpo import preference_dataset, reference_log_probabilities

    table = data.to_pandas().assign(pair_id=[f"p{k}" for k in range(len(data))], chosen_is_a=True)
    pairs = table.rename(columns={"chosen": "response_a", "rejected": "response_b"})
    pairs = with_token_ids(pairs, Encoder(load_tokenizer("bundled")))
    reference = reference_log_probabilities(resolve_model("bundled"), pairs, DPOSettings())
    return preference_dataset(orient_tokens(table, pairs), reference)


def _lengths(data: Any) -> list[int]:
    """Return the tokens of prompt + response, both sides, without padding."""
    from truthful_rlhf.pipeline.models.load import load_tokenizer

    tokenizer = load_tokenizer("bundled")
    texts = [row["prompt"] + row[side] for row in data for side in ("chosen", "rejected")]
    return [len(tokenizer(text)["input_ids"]) for text in texts]


def _peak_mb() -> float:
    """Return this process's own high-water mark (``ru_maxrss`` would inherit the parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _job(job: str, *arguments: str) -> dict[str, Any]:
    """Do what a process of this benchmark is asked for on its command line."""
    if job == "peak":
        return _peak()
    if job == "pairs":
        return _write_pairs(Path(arguments[0]))
    task, variant, pairs, folder = arguments
    return _sample(Path(pairs)) if task == "sampling" else _train(task, variant, Path(pairs), folder)


if __name__ == "__main__":
    print(json.dumps(_job(*sys.argv[1:])))
