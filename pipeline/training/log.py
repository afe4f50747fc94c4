"""Follow a training run: a progress bar with the time left, and one JSON line of metrics per logged step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, Trainer, TrainerCallback

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from truthful_rlhf.reward_model.gold import GoldReward

METRICS_FILE = "metrics.jsonl"


class TrainingLog(TrainerCallback):
    """Show a bar named ``description`` and append the metrics to ``<folder>/metrics.jsonl``; first process only."""

    def __init__(self, description: str, folder: Path) -> None:
        self.description = description
        self.path = folder / METRICS_FILE
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar, and write the metrics again that a training which goes on had before."""
        from tqdm.auto import tqdm

        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.description, unit="update")
            for logs in state.log_history:
                self._write(logs["step"], {name: value for name, value in logs.items() if name != "step"})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write the metrics and show the loss or reward that the method has."""
        if not state.is_world_process_zero or not logs:
            return
        self._write(state.global_step, logs)
        shown = {
            name: f"{logs[name]:.3f}"
            for name in ("loss", "reward", "objective/scores", "objective/kl", "gold")
            if name in logs
        }
        if self._bar is not None and shown:
            self._bar.set_postfix(shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _write(self, step: int, logs: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **logs}, default=float) + "\n")


class GoldLog(TrainerCallback):
    """Add mean gold reward and length (prompt + response, in tokens) of what was just scored to the logged metrics.

    TRL's PPO hands its responses to nobody but the reward model, so they are read from the inputs of its backbone.
    """

    def __init__(self, gold: GoldReward, reward_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.gold = gold
        self.tokenizer = tokenizer
        self._texts: list[str] = []
        self._lengths: list[int] = []
        backbone = getattr(reward_model, reward_model.base_model_prefix)
        backbone.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for ids, mask in zip(kwargs["input_ids"], kwargs["attention_mask"], strict=True):
            self._lengths.append(int(mask.sum()))
            self._texts.append(self.tokenizer.decode(ids[mask.bool()], skip_special_tokens=True))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Score and forget the texts of this update."""
        if logs is not None and self._texts:
            logs["gold"] = float(self.gold.score([""] * len(self._texts), self._texts).mean())
            logs["text_tokens"] = sum(self._lengths) / len(self._lengths)
            self._texts.clear()
            self._lengths.clear()


def follow(trainer: Trainer, description: str, folder: Path) -> None:
    """Attach a ``TrainingLog`` to a trainer in place of the library's printing.

    Args:
        trainer: of TRL.
        description: of the progress bar.
        folder: where ``metrics.jsonl`` is written.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TrainingLog(description, folder))
