"""What each section says, in a plain sentence or two. Every number comes from the data."""

from typing import Any

from analyses.figures.component_bars import called
from analyses.figures.style import signed

Data = dict[str, Any]


def tokens_say(data: Data) -> str:
    """The tokens that matter most to the change, and whether estimates may be trusted."""
    tops = []
    for row in data["questions"]:
        change = row["left_out"]["difference"]
        best = max(range(len(change)), key=lambda t: abs(change[t]))
        tops.append(f"{row['tokens'][best].strip()!r} ({signed(change[best])})")
    return (
        f"What the log-odds lose when a token is left out. Where tuned and base differ most: {', '.join(tops)}. "
        f"Leaving out and replacing by the mean embedding agree in rank at "
        f"{ranked(data['left_out_against_replaced'])}; the gradient's estimate follows the exact "
        f"replacement at {ranked(data['rank_correlation'])}{trust(data['rank_correlation'])}, integrated gradients at "
        f"{ranked(data['integrated_rank_correlation'])}."
    )


def latents_say(data: Data, behavior: Data, control: bool) -> str:
    """The strongest latent, what all do together, the control, and the screen's rank correlation."""
    first = data["rows"][0]
    name = latent_name(first)
    beside = f", {signed(first['control'])} with the control's" if control and first["control"] is not None else ""
    return (
        f"The base with one latent of {data['point']} set to the tuned model's: {name} alone moves it by "
        f"{signed(first['exact'])}{beside}; all {data['d_sae']} together by {signed(data['together'])} of the "
        f"{signed(behavior['models']['difference']['estimate'])} between the models "
        f"(what the SAE leaves unexplained: about {signed(data['error'])}). "
        f"Screen and exact patch of the top {len(data['rows'])}: rank correlation "
        f"{ranked(data['rank_correlation'])}, of sizes {ranked(data['size_correlation'])}"
        f"{trust(data['rank_correlation'])}."
    )


def places_say(data: Data, behavior: Data) -> str:
    """The cell that brings most and the one that takes most."""
    whole = behavior["models"]["difference"]["estimate"]
    brings, takes = (_extreme(data, name) for name in ("brings", "takes"))
    return (
        f"Above, the tuned model's stream in the base: layer {brings[0]}, token {brings[1]} moves it by "
        f"{signed(brings[2])} of {signed(whole)}. "
        f"Below, the base's in the tuned model: layer {takes[0]}, token {takes[1]} moves it by {signed(takes[2])}. "
        f"Every cell is exact; the estimate ranks those of the upper map at "
        f"{ranked(data['rank_correlation'])}."
    )


def components_say(data: Data, control: bool) -> str:
    """The component that changes most, and what patching it does."""
    first = data["rows"][0]
    patched = first["patched"]["tuned"]
    put = "" if patched is None else f"; put into the base it moves the log-odds by {signed(patched['estimate'])}"
    if control and patched is not None:
        put += f", the control's by {signed(first['patched']['control']['estimate'])}"
    return (
        f"What heads and MLPs write themselves towards the first differing token, over {data['questions']} questions "
        f"(log-odds {signed(data['means']['base'])} in the base, {signed(data['means']['tuned'])} tuned). "
        f"Most changed: {called(first['component'])}, from {signed(first['base']['estimate'])} to "
        f"{signed(first['tuned']['estimate'])}{put}. Screen and exact patch of those shown: rank correlation "
        f"{ranked(data['rank_correlation'])}{trust(data['rank_correlation'])}."
    )


def modules_say(data: Data) -> str:
    """The module that is missed most, the one that brings most alone, and how near updates lie to a direction."""
    rows = data["rows"]
    missed = max(rows, key=lambda row: abs(row["suppressed"]["estimate"]))
    alone = max(rows, key=lambda row: abs(row["induced"]["estimate"]))
    text = (
        f"Without {missed['module']} the tuned model loses {signed(missed['suppressed']['estimate'])}; "
        f"{alone['module']} alone brings the base {signed(alone['induced']['estimate'])}. "
        f"The map's cells sum to tuned − base but for {signed(data['gap'])}. "
        f"The estimate ranks what taking out costs at {ranked(data['rank_correlation'])}"
        f"{trust(data['rank_correlation'])}. The first singular direction of every module, without the others, brings "
        f"the base {signed(data['rank_1']['estimate'])} of {signed(data['whole']['estimate'])}."
    )
    known = [row for row in rows if "cosine" in row]
    if known:
        near = max(known, key=lambda row: row["cosine"] / row["band"])
        text += (
            f" Nearest to {_towards(data['towards'])} of its layer: the first singular direction of "
            f"{near['module']}, |cosine| {near['cosine']:.2f} (95 % of random "
            f"directions stay below {near['band']:.2f})."
        )
    return text


def directions_say(data: Data) -> str:
    """How many readings (layers, by lens and by patchscope) give a word set more than random directions do."""
    source = "tuned minus control" if data["method"] == "tuned_minus_control" else "tuned minus base"
    text = (
        f"Words that the change raises: {source} where the model is about to answer, and tuned minus base at the first "
        f"{data['first']} tokens of {data['texts']} texts that have nothing to do with it."
    )
    if data["sets"] is None:
        return f"{text} No word sets are known for this model, so what they mean is for the reader to say."
    parts = []
    for what in dict.fromkeys(row["what"] for row in data["rows"]):
        readings = [how for row in data["rows"] if row["what"] == what for how in row["said"].values()]
        beyond = (
            f"{name} in {sum(one['share'] > one['high'] for how in readings for one in how if one['words'] == name)}"
            for name in list(data["sets"])[:-1]
        )
        parts.append(f"{what}, {', '.join(beyond)} of {len(readings)} readings")
    return f"{text} Word sets above 97.5 % of random directions: {'; '.join(parts)}."


def latent_name(row: Data) -> str:
    """A latent with what it is about, where that is known."""
    return f"{row['latent']} {row['label']}".strip()


def ranked(value: float | None) -> str:
    """A rank correlation; it has no value where one side is constant."""
    return "no value (too few, or all equal)" if value is None else signed(value)


def trust(value: float | None) -> str:
    """What a rank correlation below .9 means for a screen."""
    return "" if value is None or value >= 0.9 else ", too little to go by the estimate alone"


def _towards(method: str) -> str:
    return {"truth": "the true direction", "tuned_minus_control": "tuned minus control"}.get(method, "tuned minus base")


def _extreme(data: Data, name: str) -> tuple[int, str, float]:
    """Layer, column and value of the largest cell, either way."""
    cells = [
        (layer, column, value)
        for layer, row in zip(data["layers"], data[name], strict=True)
        for column, value in zip(data["columns"], row, strict=True)
    ]
    return max(cells, key=lambda cell: abs(cell[2]))
