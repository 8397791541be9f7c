"""Contents rendered by the site's own Jinja2 templates.

A template sees each entry of the contents under its key, the whole as ``contents``, and ``escape`` and ``unescape``. It
runs in Jinja2's sandbox, a name that is not defined is an error, and there is no clock and no randomness in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aquiline.components.rendering.scalars import CannotRender
from aquiline.profile import escape, unescape

_FOLDER = "metaconfig"
_SUFFIX = ".j2"


def render_template(module: str, contents: Any, template: Callable[[str], str | None]) -> str:
    """Render `contents` by the template ``metaconfig/MODULE.j2``, which `template` finds.

    Raise `CannotRender` where there is none, or where it fails, with the line.
    """
    # Imported by the few that render templates, not by every plan.
    import jinja2  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    name = _name_of(module)
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FunctionLoader(template),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    # What these give differs from run to run.
    del environment.filters["random"], environment.globals["lipsum"]
    values = contents if isinstance(contents, dict) else {}
    try:
        found = environment.get_template(name)
        return found.render({**values, "contents": contents, "escape": escape, "unescape": unescape})
    except jinja2.TemplateNotFound as error:
        raise CannotRender(f"no template {error.name} among the site's templates") from None
    except jinja2.TemplateSyntaxError as error:
        raise CannotRender(f"template {error.name or name}, line {error.lineno}: {error.message}") from None
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CannotRender(f"template {name}, line {_line_of(error)}: {error}") from None


def _name_of(module: str) -> str:
    """Return the template's name; one that leaves the folder is refused."""
    if module.startswith("/") or ".." in module.split("/"):
        raise CannotRender(f"found the module {module!r}, expected the name of a form or of a template in {_FOLDER}/")
    return f"{_FOLDER}/{module.removesuffix(_SUFFIX)}{_SUFFIX}"


def _line_of(error: BaseException) -> int | str:
    """Return the line of the template: Jinja2 puts it into the traceback."""
    line: int | str = "?"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
