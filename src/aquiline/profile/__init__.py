"""What one host should be: profiles read, addressed, converted to typed values, and kept.

A *profile* is a JSON tree as Pan writes it, or YAML of the same shape. Nothing here looks at a host.
"""

from aquiline.profile.archive import ProfileArchive
from aquiline.profile.loading import load
from aquiline.profile.paths import escape, unescape, unescape_path
from aquiline.profile.profile import ComponentSection, Profile
from aquiline.profile.schema import SECRET, convert, json_schema, secret_paths, unknown_keys

__all__ = [
    "SECRET",
    "ComponentSection",
    "Profile",
    "ProfileArchive",
    "convert",
    "escape",
    "json_schema",
    "load",
    "secret_paths",
    "unescape",
    "unescape_path",
    "unknown_keys",
]
