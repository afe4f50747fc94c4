"""Train a policy on soft labels with DPO: TRL's ``DPOTrainer`` plus one term.

Notation: for a pair, z = beta [(log pi(chosen) - log ref(chosen)) - (log pi(rejected) - log ref(rejected))] and q is
the soft label, P(chosen better). TRL's loss is the mean of -log sigmoid(z) (arXiv 2305.18290); with the term of
``reward_model.losses`` it becomes the cross-entropy of sigmoid(z) against q, or another of the losses there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from truthful_rlhf.reward_model.losses import make_term
from truthful_rlhf.reward_model.soft_labels import (
    SOFT_LABEL,
    TOKENIZED,
    SoftLabelCollator,
    check_soft_labels,
    split_soft_labels,
)

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")

# What the term is wrong for: it completes the plain sigmoid loss of the reverse-KL log-ratios, with weight one.
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "loss_type": (["sigmoid"],),
    "loss_weights": (None, [1.0]),
    "f_divergence_type": ("reverse_kl",),
    "label_smoothing": (0.0,),  # TRL ignores it silently for this loss; a soft label says the same per pair
    "use_weighting": (False,),
    "ld_alpha": (None,),
    "use_liger_kernel": (False,),
}


def check_arguments(args: DPOConfig) -> None:
    """Raise ``ValueError`` for an option that makes the soft-label term wrong, or that TRL would ignore."""
    for name, allowed in _REQUIRED.items():
        value = getattr(args, name)
        if value not in allowed:
            raise ValueError(
                f"{name}={value!r} cannot be used with soft labels; it must be {allowed[0]!r}"
                + (": put the smoothing into the soft labels" if name == "label_smoothing" else "")
            )


class SoftDPOTrainer(DPOTrainer):
    """TRL's DPO trainer for a data set with a column ``soft_label``, P(chosen better).

    Everything else is TRL's: arguments, data formats, metrics, PEFT, accumulation, distribution. With all soft labels
    equal to 1 the loss is TRL's own. With ``precompute_ref_log_probs`` a data set that already has the columns
    ``ref_chosen_logps`` and ``ref_rejected_logps`` keeps them, so that several runs can share one computation. A data
    set with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` is taken as it is: TRL would let every response end,
    though some were cut at their longest and the policy never chose to end them.

    Args:
        soft_label_loss: one of ``reward_model.losses.LOSSES``.
        kwargs: the arguments of ``trl.DPOTrainer``.

    Raises:
        ValueError: no (valid) column ``soft_label``, or arguments under which the term would be wrong.
    """

    data_collator: Any

    def __init__(self, *args: Any, soft_label_loss: str = "soft_bce", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_arguments(self.args)
        self.soft_label_term = make_term(soft_label_loss)
        self.data_collator = SoftLabelCollator(self.data_collator)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: DPOConfig, dataset_name: str) -> Any:
        check_arguments(args)  # before the work of tokenising and of reference log-probabilities
        check_soft_labels(dataset, dataset_name)
        if not set(TOKENIZED) <= set(dataset.column_names or ()):
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if args.max_length is None or args.truncation_mode != "keep_start":
            return dataset
        return dataset.filter(lambda row: len(row["prompt_ids"]) < args.max_length)  # as TRL does

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if SOFT_LABEL not in self._signature_columns:
            self._signature_columns.append(SOFT_LABEL)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        given = [column for column in REFERENCE if column in dataset.column_names]
        if len(given) == 1:
            raise ValueError(
                f"the {name} data set has {given[0]!r} only; it needs both of {', '.join(REFERENCE)}, or none"
            )
        return dataset if given else super()._precompute_ref_logps(dataset, name, batch_size)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return TRL's reference log-probabilities; the model is not shown the soft labels."""
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k != SOFT_LABEL})

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        soft_labels, inputs = split_soft_labels(inputs)
        with _recorded_log_probabilities() as recorded:
            loss, outputs = super()._compute_loss(model, inputs, return_outputs=True)
        policy = _chosen_minus_rejected(recorded[0].sum(dim=1))
        if self.precompute_ref_logps:
            reference = inputs[REFERENCE[0]] - inputs[REFERENCE[1]]
        else:
            reference = _chosen_minus_rejected(recorded[1].sum(dim=1))
        z = self.beta * (policy - reference)
        loss = loss + self.soft_label_term(z, soft_labels).mean()
        return (loss, outputs) if return_outputs else loss


def _chosen_minus_rejected(per_sequence: Tensor) -> Tensor:
    chosen, rejected = per_sequence.chunk(2)  # TRL's batches are [chosen, rejected]
    return chosen - rejected


@contextmanager
def _recorded_log_probabilities() -> Iterator[list[Tensor]]:
    """Collect the per-token log-probabilities that TRL computes: the policy's, then the reference's.

    They are the tensors that TRL goes on to mask and sum. Computing them again from the logits would cost a second
    log-softmax over the whole vocabulary, forward and backward: more than the 2 % that soft labels may cost.
    """
    recorded: list[Tensor] = []
    original = dpo_trainer.selective_log_softmax

    def recording(*args: Any, **kwargs: Any) -> Tensor:
        recorded.append(original(*args, **kwargs))
        return recorded[-1]

    dpo_trainer.selective_log_softmax = recording
    try:
        yield recorded
    finally:
        dpo_trainer.selective_log_softmax = original
