"""HTML pages: every value escaped, figures embedded, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup


def render(template: str, images: Mapping[str, bytes], **content: Any) -> str:
    """Render a page with every value escaped and the images embedded; ``figure(name, caption)`` places one.

    Args:
        template: file name in ``pipeline/templates``.
        images: name -> PNG bytes.
        **content: variables of the template.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def figure(name: str, caption: str) -> Markup:
        data = base64.b64encode(images[name]).decode()
        return Markup(
            '<figure><img alt="{}" src="data:image/png;base64,{}"><figcaption>{}</figcaption></figure>'
        ).format(caption, data, caption)

    environment = Environment(
        loader=PackageLoader("truthful_rlhf.pipeline"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(figure=figure, **content)
