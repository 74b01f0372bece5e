"""YAML as judges are written in it: every scalar is text (NO stays a label), every field is checked by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp.errors import AnachronError


def read_file(path: str | Path) -> str:
    """The text of a UTF-8 file, line ends as newlines."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AnachronError(f"{path}: can't be read ({error}); it should be a UTF-8 text file") from error


def parse_yaml(text: str, where: str | Path) -> Any:
    """YAML as mappings, lists and texts: YAML's own reading would turn the labels YES and NO into truth values."""
    import yaml

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise AnachronError(f"{where}: not YAML ({' '.join(str(error).split())}); mend the line named") from error


def checked(data: Any, where: str | Path, required: Sequence[str], allowed: Sequence[str]) -> dict[str, Any]:
    """`data` if it is a mapping with the required fields and no others than the allowed."""
    if not isinstance(data, dict):
        raise AnachronError(f"{where}: a mapping is expected; write the fields {', '.join(allowed)}")
    missing = [name for name in required if name not in data]
    unknown = [name for name in data if name not in allowed]
    if missing or unknown:
        raise AnachronError(f"{where}: missing fields {missing}, unknown fields {unknown}; known: {', '.join(allowed)}")
    return data


def as_texts(value: Any, what: str) -> tuple[str, ...]:
    """A list of non-empty texts."""
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise AnachronError(f"{what}: {value!r} isn't a list of texts; write [first, second]")
    return tuple(value)


def as_text(value: Any, what: str) -> str:
    """A non-empty text."""
    if not isinstance(value, str) or not value.strip():
        raise AnachronError(f"{what}: {value!r} isn't a text; write one")
    return value.strip()


def as_number(value: Any, what: str) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise AnachronError(f"{what}: {value!r} isn't a number; write one") from error
    if not abs(number) < float("inf"):
        raise AnachronError(f"{what}: {value!r} isn't finite; write a finite number")
    return number
