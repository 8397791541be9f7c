"""Structured values as the text of configuration files, in the forms that Quattor's metaconfig knows.

Byte for byte what Quattor writes, apart from what changes from run to run. Everything here is a pure function.
"""

from aquiline.components.rendering.conversion import Conversion, convert
from aquiline.components.rendering.forms import FORMS
from aquiline.components.rendering.scalars import CannotRender
from aquiline.components.rendering.templates import render_template

__all__ = ["FORMS", "CannotRender", "Conversion", "convert", "render_template"]
