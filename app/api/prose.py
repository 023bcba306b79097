"""Words for people, as HTML."""

import re
from html import escape
from typing import Final

_CODE: Final = re.compile(r"`([^`]+)`")


def prose(text: str) -> str:
    """Paragraphs, and code between backticks, as Markdown has them."""
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace("\n\n", "</p><p>")
