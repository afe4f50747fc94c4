"""Train a policy on soft labels with DPO: TRL's ``DPOTrainer`` plus one term.

Notation: for a pair, z = beta [(log pi(chosen) - log ref(chosen)) - (log pi(rejected) - log ref(rejected))] and q is
the soft label, P(chosen better). TRL's loss is the mean of -log sigmoid(z) (arXiv 2305.18290); with the term of
``reward_model.losses`` it becomes the cross-entropy of sigmoid(z) against q, or another of the losses there.

What has to hold when TRL moves (1.12 to 1.16 were read and tested):

1. ``DPOTrainer.compute_loss`` is public, and the batch that it gets is the collator's, less the columns that
   ``_set_signature_columns_if_needed`` does not name.
2. The first thing that it multiplies by ``self.beta``, as ``self.beta * x``, is the difference of the two log-ratios,
   shape ``(n,)``, part of the graph of the loss.
3. The loss is the mean of -log sigmoid(beta * x), plus the router loss of a mixture of experts if there is one.
4. The model gets what a batch has beyond the masks and the reference. Where it does not, `SharedPrompts` lets the batch
   be.

The first batches of every trainer check 2 and 3 and raise if they do not hold; the tests compare every step with
torch's cross-entropy on a z that is computed without TRL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trl
from accelerate import DistributedType
from trl import DPOConfig, DPOTrainer

from truthful_rlhf.pipeline.training.shared_prompts import SharedPrompts
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
        value = getattr(args, name, allowed[0])  # TRL may have dropped an option
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
    beta: float

    def __init__(self, *args: Any, soft_label_loss: str = "soft_bce", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_arguments(self.args)
        self.soft_label_term = make_term(soft_label_loss)
        self._identity_seen = False
        alone = self.accelerator.distributed_type == DistributedType.NO and not self.args.gradient_checkpointing
        self._share_prompts = SharedPrompts(alone)
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

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss plus the mean term (and the model's outputs, if asked for)."""
        soft_labels, inputs = split_soft_labels(inputs)
        inputs = self._share_prompts(model, inputs)
        with self._watched_beta() as factors:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, *outputs = result if return_outputs else (result,)
        if not factors:
            raise _moved()
        z = self.beta * factors[0]
        if not self._identity_seen:
            self._check_identity(loss, z, len(soft_labels))
        loss = loss + self.soft_label_term(z, soft_labels).mean()
        return (loss, *outputs) if return_outputs else loss

    @contextmanager
    def _watched_beta(self) -> Iterator[list[Tensor]]:
        """Collect what TRL multiplies by beta: first the difference of the log-ratios, of which z is made.

        It is the tensor that TRL's loss was computed from. Computing it again from the logits would cost a second
        log-softmax over the whole vocabulary, forward and backward: more than the 2 % that soft labels may cost.
        """
        beta, watched = self.beta, _WatchedBeta(self.beta)
        self.beta = watched
        try:
            yield watched.factors
        finally:
            self.beta = beta

    def _check_identity(self, loss: Tensor, z: Tensor, n: int) -> None:
        """Raise ``RuntimeError`` unless TRL's loss is the mean of -log sigmoid(z).

        Where z is 0, as before the first update, any other formula may give log 2 as well: the check goes on until a
        batch where it is not.
        """
        import torch
        from torch.nn.functional import logsigmoid

        holds = z.shape == (n,)
        if holds and z.detach().abs().max() > 0.1:
            router = getattr(self, "aux_loss_enabled", False)  # of a mixture of experts: added to the loss
            holds = router or torch.allclose(loss.detach(), -logsigmoid(z.detach()).mean(), rtol=1e-3, atol=0.0)
            self._identity_seen = holds
        if not holds:
            raise _moved()


def _moved() -> RuntimeError:
    return RuntimeError(
        f"TRL {trl.__version__} does not compute the DPO loss in the way that soft labels build on (see {__name__})."
        " Versions that do: trl>=1.12,<2 without 1.15"
    )


class _WatchedBeta(float):
    """A beta that remembers what it was multiplied by."""

    def __init__(self, value: float) -> None:
        self.factors: list[Any] = []

    def __mul__(self, other: Any) -> Any:
        self.factors.append(other)
        return float(self) * other
