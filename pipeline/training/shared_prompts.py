"""Read the prompt of a pair once for both of its responses.

A batch of DPO has every prompt twice. Here its tokens but the last are read once, and what the attention layers keep of
them (the key-value cache, through which gradients flow) is given to both responses: less to compute by the second copy
of the prompt, and no vocabulary projection where no loss reads it. Short prompts are read twice all the same: two small
passes through the model cost more than they save. The numbers are those of the plain way up to rounding; the first such
batch is computed both ways, and a model for which they differ reads all prompts twice.
"""

from __future__ import annotations

from typing import Any

PLAIN_BATCH = {"input_ids", "attention_mask", "completion_mask", "ref_chosen_logps", "ref_rejected_logps"}
"""Keys of a batch that can be shared: a reference that is computed beside the policy would be given its cache."""
WORTH_IT = 0.75
"""Share of a batch's tokens up to which reading prompts once was faster."""
SHARE_APART, NATS_APART = 0.02, 0.5
"""How far the log-probabilities of a response may lie apart: rounding in bfloat16 is far within."""


class SharedPrompts:
    """Turns batches of TRL's DPO collator, as long as the model allows it."""

    def __init__(self, possible: bool) -> None:
        """Begin.

        Args:
            possible: whether the trainer may run a model twice per batch and keep what it read: not when distributed
                or with gradient checkpointing.
        """
        self._possible = possible
        self._compared = False

    def __call__(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return a batch that gives the same loss from the prompts' cache, or the batch as it is.

        Args:
            model: the policy, in training.
            inputs: of 2n sequences, chosen before rejected, each padded on its right: ``input_ids``,
                ``attention_mask`` and ``completion_mask`` of shape ``(2n, tokens)``, and the reference's
                log-probabilities of shape ``(n,)``.
        """
        if not self._possible or set(inputs) != PLAIN_BATCH or not (_saves(inputs) and _can_be_split(inputs)):
            return inputs
        if not self._compared:
            self._possible = self._compared = _agrees(model, inputs)
        return _shared(model, inputs) if self._possible else inputs


def _saves(inputs: dict[str, Any]) -> bool:
    """Return whether enough fewer tokens are read, padding included."""
    prompts, width = inputs["attention_mask"] - inputs["completion_mask"], inputs["input_ids"].shape[1]
    longest, response = int(prompts.sum(1).max()) - 1, int(inputs["completion_mask"].sum(1).max()) + 1
    return longest / 2 + response <= WORTH_IT * width


def _can_be_split(inputs: dict[str, Any]) -> bool:
    """Return whether both sequences of every pair begin with the same prompt of two or more tokens, unpadded."""
    import torch

    attended, said = inputs["attention_mask"], inputs["completion_mask"]
    first, second = (attended - said).chunk(2)
    ids, other = inputs["input_ids"].chunk(2)
    starts = first.sum(1, keepdim=True)
    in_front = first == (torch.arange(first.shape[1], device=first.device) < starts)
    return bool(in_front.all() and (first == second).all() and (ids == other)[first.bool()].all() and starts.min() > 1)


def _shared(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import torch

    ids, attended, said = (inputs[key] for key in ("input_ids", "attention_mask", "completion_mask"))
    n = len(ids) // 2
    prompt = (attended - said).sum(1)  # tokens of each sequence's prompt
    longest = int(prompt.max()) - 1
    read = (torch.arange(longest, device=ids.device) < prompt[:n, None] - 1).to(attended.dtype)
    nowhere = torch.arange(0, device=ids.device)  # no position's logits are read
    start = model(input_ids=ids[:n, :longest], attention_mask=read, use_cache=True, logits_to_keep=nowhere)
    cache = start.past_key_values
    cache.batch_select_indices(torch.arange(n, device=ids.device).repeat(2))
    width = int((attended.sum(1) - prompt).max()) + 1
    places = prompt[:, None] - 1 + torch.arange(width, device=ids.device)  # the prompt's last token, then the response
    inside = places.clamp(max=ids.shape[1] - 1)
    there = attended.gather(1, inside) * (places < ids.shape[1])
    return {
        "input_ids": ids.gather(1, inside),
        "attention_mask": torch.cat([read.repeat(2, 1), there], dim=1),
        "position_ids": places,
        "completion_mask": said.gather(1, inside) * there,
        "past_key_values": cache,
        **{key: inputs[key] for key in inputs if key.startswith("ref_")},
    }


def _agrees(model: Any, inputs: dict[str, Any]) -> bool:
    """Return whether a model gives the same log-probabilities of the responses both ways."""
    import torch

    training = model.training
    model.eval()  # without dropout
    try:
        with torch.no_grad():
            apart = _log_probabilities(model, inputs)
            try:
                together = _log_probabilities(model, _shared(model, inputs))
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # it keeps something else
                return False
    finally:
        model.train(training)
    return bool(torch.allclose(apart, together, rtol=SHARE_APART, atol=NATS_APART))


def _log_probabilities(model: Any, inputs: dict[str, Any]) -> Any:
    from trl.trainer.utils import selective_log_softmax

    given = {key: value for key, value in inputs.items() if key not in PLAIN_BATCH - {"input_ids", "attention_mask"}}
    logits = model(**given, use_cache=False).logits[:, :-1]
    return (selective_log_softmax(logits, inputs["input_ids"][:, 1:]) * inputs["completion_mask"][:, 1:]).sum(1)
