"""Reading fact files: JSON with errors that name the file and the entry."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interp.errors import AnachronError


def read_json_file(path: Path) -> Any:
    """The contents of a JSON fact file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AnachronError(f"{path}: no such fact file; check the folder") from None
    except UnicodeDecodeError as error:
        raise AnachronError(f"{path}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise AnachronError(f"{path}:{error.lineno}: not JSON ({error.msg}); mend the file") from None


def require(path: Path, entry: object, fields: Mapping[str, type], where: str = "") -> None:
    """Raise unless `entry` is an object with these fields, each of its type."""
    if not isinstance(entry, dict):
        raise AnachronError(f"{path}: an object is needed, found {type(entry).__name__} {entry!r:.80}; mend the file")
    for field, kind in fields.items():
        if field not in entry:
            raise AnachronError(f"{path}: field {where + field!r} is missing; add it")
        value = entry[field]
        # JSON writes the float 1.0 as 1 just as well
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise AnachronError(
                f"{path}: field {where + field!r} must be a {kind.__name__}, found {type(value).__name__}; mend it"
            )


def require_texts(path: Path, what: str, texts: object) -> None:
    """Raise unless `texts` is a list of texts, none empty or padded with spaces."""
    if not isinstance(texts, list) or not texts:
        raise AnachronError(f"{path}: {what}: a list of texts is needed, found {texts!r:.80}; mend the file")
    for text in texts:
        if not isinstance(text, str) or not text or text != text.strip():
            raise AnachronError(f"{path}: {what}: {text!r} is not a text, or empty, or padded with spaces; mend it")


def require_different(path: Path, what: str, texts: Iterable[str]) -> None:
    """Raise if one of the texts stands twice."""
    twice = sorted(text for text, n in Counter(texts).items() if n > 1)
    if twice:
        raise AnachronError(f"{path}: {what}: {twice} stand twice; keep one of each")
