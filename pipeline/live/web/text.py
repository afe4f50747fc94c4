"""Prompts and responses as HTML: plain text, or Markdown; both are untrusted and leave here sanitised.

Markdown loses what would leave the page: links and images stay as they were typed, and raw HTML is text.
"""

from __future__ import annotations

import functools

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}
_OUTSIDE = ["link", "image", "autolink", "html_inline", "html_block", "reference"]


def as_html(text: str, markdown: bool) -> Markup:
    """Return a prompt or response as safe HTML.

    Examples:
        >>> as_html("<b>1 < 2</b>", markdown=False)
        Markup('&lt;b&gt;1 &lt; 2&lt;/b&gt;')
        >>> as_html("**bold** [x](javascript:y)", markdown=True)
        Markup('<p><strong>bold</strong> [x](javascript:y)</p>\\n')
    """
    if not markdown:
        return escape(text)
    html = _parser().render(text)
    for level in range(6, 0, -1):  # below the page's own headings, so that a screen reader can go from one to the next
        below = min(level + 2, 6)
        html = html.replace(f"<h{level}>", f"<h{below}>").replace(f"</h{level}>", f"</h{below}>")
    return Markup(nh3.clean(html, tags=_TAGS, attributes={"ol": {"start"}}, link_rel=None))


@functools.cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    return parser.enable(["table", "strikethrough"]).disable(_OUTSIDE)
