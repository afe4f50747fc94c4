"""The campaign in the browser: pages for labelers, experts and the owner, and JSON for LLM judges."""

from truthful_rlhf.pipeline.live.web.app import create_app

__all__ = ["create_app"]
