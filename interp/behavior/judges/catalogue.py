"""The judges that come along, by name, and a user's own, by path."""

from pathlib import Path

from interp.behavior.judges.matcher import Matcher, read_matcher
from interp.behavior.judges.prompt import JudgePrompt, read_prompt
from interp.errors import AnachronError

FOLDER = Path(__file__).parent / "prompts"


def built_in() -> tuple[str, ...]:
    """The names of the judge prompts that come along."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.md")))


def find(name: str) -> JudgePrompt | Matcher:
    """A judge prompt by name or from a file of front matter and text (.md), a matcher from a file of rules (.yaml).

    Errors: AnachronError for a name that is neither, with those there are, and what the readers refuse.
    """
    if name in built_in():
        return read_prompt(FOLDER / f"{name}.md")
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return read_matcher(path)
    if path.suffix == ".md":
        return read_prompt(path)
    raise AnachronError(
        f"no judge {name!r}; there are {', '.join(built_in())}, or give a file: a prompt (.md) or rules (.yaml)"
    )
