"""Pairs go by other names outside: an owner may have called one ``gold-7``, or numbered them by source."""

from __future__ import annotations

from truthful_rlhf.pipeline.live.campaign import Campaign

_BYTES = 12


class Aliases:
    """Pair id to alias and back; the campaign's key makes them, so every process has the same."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._pairs: dict[str, str] = {}

    def of(self, pair_id: str) -> str:
        """Return the alias of a pair."""
        alias = self._campaign.secrets.digest("alias", pair_id)[:_BYTES].hex()
        self._pairs[alias] = pair_id
        return alias

    def pair_id(self, alias: str, labeler: str) -> str:
        """Return which pair a labeler means; what is no alias is returned as it is, and is nobody's to answer."""
        if alias not in self._pairs and (task := self._campaign.next_task(labeler)) is not None:
            self.of(task.pair_id)  # given out by another process, or before this one began
        return self._pairs.get(alias, alias)
