"""Commands of `anachron`, one file each: a step on files. Nothing slow is imported at their top: `--help` is prompt."""
