"""The forms that need no template: JSON, YAML, INI, Java properties, Config::General and TOML.

Sources of the formats: JSON::XS (canonical, pretty), YAML::XS with libyaml, Config::Tiny, Config::Properties and
Text::Wrap, and the template of CCM that took the place of Config::General. Each is the Perl module that Quattor renders
with, whose text sites have on their hosts today.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aquiline.components.rendering.scalars import CannotRender, double, text_of

# ---- JSON ---------------------------------------------------------------------------------------------------------


def render_json(contents: Any) -> str:
    """Render on one line, keys sorted."""
    _check_container(contents)
    return _json(contents, indent=None, level=0)


def render_jsonpretty(contents: Any) -> str:
    """Render with one entry on a line, indented by three spaces, keys sorted."""
    _check_container(contents)
    return _json(contents, indent="   ", level=0) + "\n"


def _json(value: Any, *, indent: str | None, level: int) -> str:
    match value:
        case float():
            return double(value)
        case dict():
            colon = ":" if indent is None else " : "
            entries = [
                f"{_json(key, indent=indent, level=0)}{colon}{_json(value[key], indent=indent, level=level + 1)}"
                for key in sorted(value)
            ]
            return _json_lines("{}", entries, indent, level)
        case list():
            return _json_lines("[]", [_json(entry, indent=indent, level=level + 1) for entry in value], indent, level)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _json_lines(brackets: str, entries: list[str], indent: str | None, level: int) -> str:
    if not entries:
        return brackets
    if indent is None:
        return f"{brackets[0]}{','.join(entries)}{brackets[1]}"
    inner = f"\n{indent * (level + 1)}"
    return f"{brackets[0]}{inner}{f',{inner}'.join(entries)}\n{indent * level}{brackets[1]}"


def _check_container(contents: Any) -> None:
    if not isinstance(contents, dict | list):
        raise CannotRender("found a single value, expected a mapping or list")


# ---- YAML ---------------------------------------------------------------------------------------------------------

#: What Perl takes for a number, and YAML::XS therefore quotes.
_NUMBER = re.compile(r"\s*[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf(?:inity)?|nan)\s*", re.IGNORECASE | re.ASCII)
_QUOTED = frozenset({"", "~", "true", "false", "null"})
_SHORT_LINES = 30


def render_yaml(contents: Any) -> str:
    """Render one document, keys sorted."""
    return _yaml([contents])


def render_yamlmulti(contents: Any) -> str:
    """Render one document for each value of a mapping, in the order of its keys, which are dropped."""
    return _yaml([value for _, value in sorted(_mapping(contents).items())])


def _yaml(documents: list[Any]) -> str:
    # Imported by the few that render YAML, not by every plan.
    import yaml  # noqa: PLC0415

    text: str = yaml.emit(
        _yaml_events(yaml, documents),
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        allow_unicode=True,
    )
    return text


def _yaml_events(yaml: Any, documents: list[Any]) -> Iterator[Any]:
    yield yaml.StreamStartEvent()
    for document in documents:
        yield yaml.DocumentStartEvent(explicit=True)
        yield from _yaml_value(yaml, document)
        yield yaml.DocumentEndEvent(explicit=False)
    yield yaml.StreamEndEvent()


def _yaml_value(yaml: Any, value: Any) -> Iterator[Any]:
    match value:
        case dict():
            yield yaml.MappingStartEvent(None, None, implicit=True, flow_style=False)
            for key in sorted(value):
                yield from _yaml_value(yaml, key)
                yield from _yaml_value(yaml, value[key])
            yield yaml.MappingEndEvent()
        case list():
            yield yaml.SequenceStartEvent(None, None, implicit=True, flow_style=False)
            for entry in value:
                yield from _yaml_value(yaml, entry)
            yield yaml.SequenceEndEvent()
        case _:
            text, style = _yaml_scalar(value)
            yield yaml.ScalarEvent(None, None, (True, True), text, style=style)


def _yaml_scalar(value: Any) -> tuple[str, str | None]:
    """Return the text of a scalar and the style it asks for; the emitter quotes where that does not do."""
    if value is None:
        return "~", None
    if isinstance(value, bool):
        return ("true" if value else "false"), None
    if not isinstance(value, str):
        return text_of(value), None
    if value in _QUOTED or _NUMBER.fullmatch(value):
        return value, "'"
    if "\n" not in value:
        return value, None
    return value, "|" if len(value.encode()) > _SHORT_LINES else '"'


# ---- INI ----------------------------------------------------------------------------------------------------------


def render_tiny(contents: Any) -> str:
    """Render the single values first, then each mapping as a section."""
    top = {key: value for key, value in _mapping(contents).items() if not isinstance(value, dict | list)}
    sections = {key: _mapping(value) for key, value in contents.items() if key not in top}
    blocks = [_tiny_lines(top)] if top else []
    for name in sorted(sections):
        if name != name.strip() or "\n" in name:
            raise CannotRender(f"found a section called {name!r}, which cannot be written")
        blocks.append(f"[{name}]\n{_tiny_lines(sections[name])}")
    return "\n".join(blocks)


def _tiny_lines(values: Mapping[str, Any]) -> str:
    lines = [f"{key}={text_of(values[key])}" for key in sorted(values)]
    for line in lines:
        if "\n" in line or "\r" in line:
            raise CannotRender(f"found several lines in {line.partition('=')[0]!r}, expected one")
    return "".join(f"{line}\n" for line in lines)


# ---- Java properties ----------------------------------------------------------------------------------------------

_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_IN_KEYS = re.compile(r"""[\t\n\r\\"' =:]""")
_IN_VALUES = re.compile(r"[\t\n\r\\]")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")
#: A single space that no backslash protects: where a long line may be broken.
_BREAK = re.compile(r"(?<!\\) (?! )")
_LINE = 75


def render_properties(contents: Any) -> str:
    """Render every leaf as ``path.to.it=value``, sorted; without the date that Quattor writes on top."""
    leaves = dict(_leaves(_mapping(contents), ()))
    return "".join(_wrapped(f"{_property_key(key)}={_property_value(leaves[key])}") + "\n" for key in sorted(leaves))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, entry in value.items():
                yield from _leaves(entry, (*path, key) if key else path)
        case list():
            for position, entry in enumerate(value):
                yield from _leaves(entry, (*path, str(position)))
        case None:
            raise CannotRender(f"found null at {'.'.join(path)}, expected a value")
        case _:
            yield ".".join(path), text_of(value)


def _property_key(key: str) -> str:
    escaped = _beyond_ascii(_IN_KEYS.sub(_backslashed, key))
    return f"\\{escaped}" if escaped[:1] in ("#", "!") else escaped


def _property_value(value: str) -> str:
    escaped = _beyond_ascii(_IN_VALUES.sub(_backslashed, value))
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def _backslashed(found: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(found[0], f"\\{found[0]}")


def _beyond_ascii(text: str) -> str:
    return _BEYOND_ASCII.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _wrapped(line: str) -> str:
    """Continue a long line on further ones, at the last space that fits; one without spaces stays long."""
    lines: list[str] = []
    indent, rest = "", line
    while len(indent) + len(rest) > _LINE:
        width = _LINE - len(indent)
        breaks = [found.start() for found in _BREAK.finditer(rest)]
        fitting = [position for position in breaks if position <= width]
        if not breaks:
            break
        at = fitting[-1] if fitting else breaks[0]
        if at == len(rest) - 1:
            break
        lines.append(indent + rest[:at])
        indent, rest = "    ", rest[at + 1 :]
    return " \\\n".join([*lines, indent + rest])


# ---- Config::General ----------------------------------------------------------------------------------------------


def render_general(contents: Any) -> str:
    """Render single values as ``key value``, lists as one such line for each entry, mappings as blocks."""
    return "".join(
        _general_block(key, entry) if isinstance(entry, dict) else f"{key} {_general_text(entry)}\n"
        for key, value in sorted(_mapping(contents).items())
        for entry in (value if isinstance(value, list) else [value])
    )


def _general_block(name: str, contents: dict[str, Any]) -> str:
    inner = re.sub("^(?!\\Z)", "    ", render_general(contents), flags=re.MULTILINE) or "    "
    return f'<"{name}">\n{inner}</"{name}">\n'


def _general_text(value: Any) -> str:
    """Return the text of a scalar as Quattor's templates have it: a double always has a point."""
    text = text_of(value)
    return f"{text}.0" if isinstance(value, float) and "." not in text else text


# ---- TOML ---------------------------------------------------------------------------------------------------------


def render_toml(contents: Any) -> str:
    """Render as TOML 1.0, keys sorted; this form is not Quattor's."""
    # Imported by the few that render TOML, not by every plan.
    import tomli_w  # noqa: PLC0415

    return tomli_w.dumps(_toml_value(_mapping(contents), ""))


def _toml_value(value: Any, path: str) -> Any:
    match value:
        case None:
            raise CannotRender(f"found null at {path}, which TOML cannot write")
        case dict():
            return {key: _toml_value(value[key], f"{path}/{key}") for key in sorted(value)}
        case list():
            return [_toml_value(entry, f"{path}/{position}") for position, entry in enumerate(value)]
        case _:
            return value


def _mapping(contents: Any) -> dict[str, Any]:
    if not isinstance(contents, dict):
        raise CannotRender(f"found a {'list' if isinstance(contents, list) else 'single value'}, expected a mapping")
    return contents


FORMS: Mapping[str, Callable[[Any], str]] = {
    "general": render_general,
    "json": render_json,
    "jsonpretty": render_jsonpretty,
    "properties": render_properties,
    "tiny": render_tiny,
    "toml": render_toml,
    "yaml": render_yaml,
    "yamlmulti": render_yamlmulti,
}
