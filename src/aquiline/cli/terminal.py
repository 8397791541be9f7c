"""Where a command speaks: data on stdout, talk on stderr."""

from __future__ import annotations

import io
import json
import shutil
from typing import Any, TextIO

import msgspec


class Terminal:
    """The two streams of a command, and whether its answer is for machines."""

    def __init__(self, out: TextIO, err: TextIO, *, is_json: bool) -> None:
        self._out = out
        self._err = err
        self.is_json = is_json
        #: The answer has been printed: an error that comes later adds no second JSON value.
        self.has_answered = False
        self._has_progress = False
        for stream in (out, err):
            if isinstance(stream, io.TextIOWrapper):
                # A name on this host, or the terminal's encoding, must not make a report fail half way.
                stream.reconfigure(errors="backslashreplace")

    def answer(self, text: str) -> None:
        """Print data: `text` as it is, with a line end."""
        self.has_answered = True
        self._clear_progress()
        self._out.write(text if text.endswith("\n") or not text else f"{text}\n")
        self._out.flush()

    def answer_bytes(self, content: bytes) -> None:
        """Print data, byte for byte."""
        self.has_answered = True
        self._clear_progress()
        self._out.flush()
        self._out.buffer.write(content)
        self._out.buffer.flush()

    def answer_json(self, value: Any) -> None:
        """Print `value`, made of structs and JSON's types, as JSON in ASCII."""
        self.answer(json.dumps(msgspec.to_builtins(value, str_keys=True), indent=2, ensure_ascii=True))

    def say(self, text: str = "") -> None:
        """Talk to the person who waits."""
        self._clear_progress()
        self._err.write(f"{text}\n")
        self._err.flush()

    def progress(self, done: int, total: int, text: str) -> None:
        """Show how far a long command is, on one line that the next one replaces; only on a terminal."""
        if not self._err.isatty():
            return
        width = shutil.get_terminal_size().columns - 1
        self._err.write(f"\r\x1b[K[{done}/{total}] {text}"[: width + 4])
        self._err.flush()
        self._has_progress = True

    def _clear_progress(self) -> None:
        if self._has_progress:
            self._err.write("\r\x1b[K")
            self._has_progress = False
