"""Pages that need nothing else: a template, the house's style and at most one script, all in one file.

In: a template's name and what it shows. Out: HTML whose policy allows its own style and script by their hashes, and
nothing else. Never: a resource from elsewhere, an inline attribute of style or script, half a file.
"""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"


def page_html(template: str, *, script: str | None = None, **shown: object) -> str:
    """Return the page; `shown` is escaped but for what is `markup`. Raises ConfigError without Jinja2."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra that few runs need
    except ImportError as error:
        raise ConfigError("reports need Jinja2: install cascade-trader[dashboard]") from error
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    code = "" if script is None else (FOLDER / script).read_text(encoding="utf-8")
    allowed = f"; script-src '{_hash(code)}'" if script is not None else ""
    policy = f"default-src 'none'; style-src '{_hash(style)}'{allowed}; base-uri 'none'; form-action 'none'"
    templates = Environment(
        loader=PackageLoader("services.backtest.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(policy=policy, style=markup(style), script=markup(code), **shown)


def markup(content: str) -> "Markup":
    """Return what this package drew or wrote itself, and has escaped, as markup."""
    from markupsafe import Markup  # noqa: PLC0415 - comes with Jinja2

    return Markup(content)  # noqa: S704 - never text from the data: drawings escape it themselves


def save(text: str, path: Path) -> None:
    """Write a page beside its place and move it there; raises OSError."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
