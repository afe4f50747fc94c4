"""Train a reward model on soft labels: TRL's ``RewardTrainer`` plus one term.

The loss per pair is the cross-entropy of the reward difference z = r(chosen) - r(rejected) against the soft label q,
-log sigmoid(z) + (1 - q) z, so that sigmoid(z) estimates P(chosen better) and can be checked for calibration.
"""

from __future__ import annotations

from typing import Any

from trl import RewardTrainer

from truthful_rlhf.reward_model.losses import make_term
from truthful_rlhf.reward_model.soft_labels import SOFT_LABEL, SoftLabelCollator, check_soft_labels, split_soft_labels


class SoftRewardTrainer(RewardTrainer):
    """TRL's reward trainer for a data set with a column ``soft_label``, P(chosen better).

    Everything else is TRL's: arguments, data formats, metrics, PEFT, accumulation, distribution. With all soft labels
    equal to 1 the loss is TRL's own.

    Args:
        soft_label_loss: one of ``reward_model.losses.LOSSES``.
        kwargs: the arguments of ``trl.RewardTrainer``.

    Raises:
        ValueError: no (valid) column ``soft_label``, or a column ``margin``, which contradicts a probability.
    """

    data_collator: Any

    def __init__(self, *args: Any, soft_label_loss: str = "soft_bce", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.soft_label_term = make_term(soft_label_loss)
        self.data_collator = SoftLabelCollator(self.data_collator)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        check_soft_labels(dataset, dataset_name)
        if "margin" in (dataset.column_names or ()):
            raise ValueError(
                f"the {dataset_name} data set has a column 'margin': it cannot be combined with soft labels"
            )
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if SOFT_LABEL not in self._signature_columns:
            self._signature_columns.append(SOFT_LABEL)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss plus the mean term (and the model's outputs, if asked for)."""
        soft_labels, inputs = split_soft_labels(inputs)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        loss = loss + self.soft_label_term(chosen - rejected, soft_labels).mean()
        return (loss, outputs) if return_outputs else loss
