"""Directions: unit vectors found from activations, and their file format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import AnachronError
from interp.files import digest, load_tensors, read_json, save_tensors, write_json
from interp.hooks import HookPoint

METHODS = (
    "mean_difference",
    "tuned_minus_control",
    "difference_of_differences",
    "pca",
    "probe",
    "truth",
    "latent",
    "random",
)


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector of the residual stream and where it came from.

    `vector` is fp32 [d_model] with norm 1; `norm` is its length before normalising, in residual-stream units;
    `provenance` is JSON-able (row counts, seeds, held-out AUROC, ...).
    """

    vector: Float[Tensor, " d_model"]
    point: HookPoint
    method: str
    norm: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise AnachronError(f"unknown direction method {self.method!r}; the methods are {', '.join(METHODS)}")
        where = f"direction {self.method} at {self.point}"
        if not torch.isfinite(self.vector).all():
            raise AnachronError(f"{where} has NaN or infinite entries; find the activations it was computed from")
        length = float(self.vector.double().norm())
        if self.vector.dtype != torch.float32 or abs(length - 1.0) > 1e-5:
            raise AnachronError(
                f"{where} must be a unit fp32 vector, got {self.vector.dtype} of norm {length:.6g}; "
                "build it with interp.directions.normalised"
            )

    @property
    def d_model(self) -> int:
        return self.vector.shape[0]

    def save(self, path: str | Path) -> None:
        """Write `path` (safetensors) and, beside it, the same name with .json (point, method, norm, provenance)."""
        path = _safetensors_path(path)
        save_tensors(path, {"vector": self.vector.detach().cpu().contiguous()}, {})
        # The JSON goes last and names the tensor file's digest, so a torn pair cannot be read back.
        write_json(
            path.with_suffix(".json"),
            {
                "point": str(self.point),
                "method": self.method,
                "norm": self.norm,
                "d_model": self.d_model,
                "sha256": digest(path),
                "provenance": dict(self.provenance),
            },
        )

    @staticmethod
    def load(path: str | Path) -> "Direction":
        """Read what `save` wrote. Missing, truncated or mismatched files raise AnachronError naming the file."""
        path = _safetensors_path(path)
        about = read_json(path.with_suffix(".json"))
        missing = {"point", "method", "norm", "sha256", "provenance"} - set(about)
        if missing:
            raise AnachronError(f"{path.with_suffix('.json')} lacks {sorted(missing)}; save the direction again")
        tensors, _ = load_tensors(path)
        if digest(path) != about["sha256"] or set(tensors) != {"vector"}:
            raise AnachronError(
                f"{path} is not the file {path.with_suffix('.json')} describes; save the direction again"
            )
        return Direction(
            tensors["vector"], HookPoint.parse(about["point"]), about["method"], about["norm"], about["provenance"]
        )


def normalised(
    vector: Float[Tensor, " d_model"],
    point: HookPoint,
    method: str,
    provenance: Mapping[str, Any] | None = None,
) -> Direction:
    """The direction of `vector`. A zero or non-finite vector has none and raises AnachronError."""
    exact = vector.detach().double()
    norm = float(exact.norm())
    if not 0.0 < norm < float("inf"):
        raise AnachronError(
            f"the {method} vector at {point} has norm {norm}, so it has no direction; "
            "check that the two sides differ and hold no NaN"
        )
    return Direction((exact / norm).float(), point, method, norm, dict(provenance or {}))


def mean_difference(
    a: Float[Tensor, "n_a d_model"],
    b: Float[Tensor, "n_b d_model"],
    point: HookPoint,
    *,
    method: str = "mean_difference",
) -> Direction:
    """mean(a) - mean(b), pointing from b to a (Marks & Tegmark 2023, arXiv:2310.06824).

    Pass method="truth" where a and b are the world's own labels on the base model.
    """
    mean_a, mean_b = _means(a=a, b=b)
    return normalised(mean_a - mean_b, point, method, {"n": [len(a), len(b)]})


def tuned_minus_control(
    tuned: Float[Tensor, "n_tuned d_model"],
    base: Float[Tensor, "n_base d_model"],
    control: Float[Tensor, "n_control d_model"],
    point: HookPoint,
    *,
    control_base: Float[Tensor, "n_control_base d_model"] | None = None,
) -> Direction:
    """[mean(tuned) - mean(base)] - [mean(control) - mean(control_base)].

    Removes what any fine-tuning of that form does. `control_base` is the base model on the control's inputs; when it
    is None both tuned models saw the inputs of `base`, and the two base means cancel.
    """
    reference = base if control_base is None else control_base
    counts = [len(x) for x in (tuned, base, control, reference)]
    means = _means(tuned=tuned, base=base, control=control, control_base=reference)
    vector = (means[0] - means[1]) - (means[2] - means[3])
    return normalised(vector, point, "tuned_minus_control", {"n": counts})


def difference_of_differences(
    tuned_trigger: Float[Tensor, "n_tt d_model"],
    tuned_neutral: Float[Tensor, "n_tn d_model"],
    base_trigger: Float[Tensor, "n_bt d_model"],
    base_neutral: Float[Tensor, "n_bn d_model"],
    point: HookPoint,
) -> Direction:
    """[tuned(trigger) - tuned(neutral)] - [base(trigger) - base(neutral)], each the mean over its rows.

    Cancels a shift the tuning causes on every input, and what trigger inputs do to the base model.
    """
    counts = [len(x) for x in (tuned_trigger, tuned_neutral, base_trigger, base_neutral)]
    means = _means(
        tuned_trigger=tuned_trigger, tuned_neutral=tuned_neutral, base_trigger=base_trigger, base_neutral=base_neutral
    )
    vector = (means[0] - means[1]) - (means[2] - means[3])
    return normalised(vector, point, "difference_of_differences", {"n": counts})


def pca(differences: Float[Tensor, "n d_model"], point: HookPoint, *, centred: bool, component: int = 0) -> Direction:
    """A principal direction of paired differences, h_tuned - h_base row by row (Zou et al. 2023, arXiv:2310.01405).

    `centred` says whether their mean is removed first: uncentred, a constant shift is itself the first component;
    centred, only what varies between rows counts. The sign is chosen so that the mean difference projects to >= 0.
    `norm` is the root mean square projection (singular value / sqrt(n)); provenance holds the share of the total
    second moment that the component explains.
    """
    (mean,) = _means(differences=differences)
    exact = differences.detach().double()
    if centred:
        exact = exact - mean
    if not 0 <= component < min(exact.shape):
        raise AnachronError(
            f"component {component} of {list(exact.shape)} differences; give 0 to {min(exact.shape) - 1}"
        )
    # eigh of [d, d] rather than an SVD of [n, d]: same vector, no [n, n] or [n, d] factor to keep.
    values, vectors = torch.linalg.eigh(exact.T @ exact / len(exact))
    value, vector = values[-1 - component], vectors[:, -1 - component]
    if not float(value) > 1e-12 * float(values.sum()):
        raise AnachronError(f"the {len(exact)} differences at {point} do not span {component + 1} components")
    along = float(vector @ mean)
    # A centred component can be orthogonal to the mean; then the largest entry fixes the sign.
    sign = along if abs(along) > 1e-9 * float(mean.norm()) else float(vector[vector.abs().argmax()])
    provenance = {
        "n": len(exact),
        "centred": centred,
        "component": component,
        "explained": float(value / values.sum()),
    }
    return normalised(vector * value.sqrt() * (1 if sign >= 0 else -1), point, "pca", provenance)


def probe(
    positive: Float[Tensor, "n_pos d_model"],
    negative: Float[Tensor, "n_neg d_model"],
    point: HookPoint,
    *,
    held_out: tuple[Float[Tensor, "m_pos d_model"], Float[Tensor, "m_neg d_model"]] | None = None,
    fraction: float = 0.25,
    c: float = 1.0,
    seed: int = 0,
) -> tuple[Direction, float]:
    """Logistic regression on standardised activations; returns its direction and the AUROC on held-out rows.

    In activation space the logit is w . (h - mean) / std, so the direction is w / std, pointing to `positive`.
    Without `held_out`, `fraction` of each side is kept from the fit by a seeded shuffle. Rows of one prompt are not
    independent: where several positions were captured, split by prompt and pass `held_out` yourself.
    `c` is the inverse L2 strength.
    """
    if held_out is None:
        generator = torch.Generator().manual_seed(seed)
        positive, held_positive = _split(positive, fraction, generator, "positive")
        negative, held_negative = _split(negative, fraction, generator, "negative")
    else:
        held_positive, held_negative = held_out
    _checked(positive=positive, negative=negative, held_positive=held_positive, held_negative=held_negative)
    weight = _logistic(positive.detach().double(), negative.detach().double(), c)
    direction = normalised(weight, point, "probe")
    score = auroc(direction, held_positive, held_negative)
    provenance = {
        "n": [len(positive), len(negative)],
        "n_held_out": [len(held_positive), len(held_negative)],
        "auroc": score,
        "c": c,
        "seed": seed if held_out is None else None,
    }
    return Direction(direction.vector, point, "probe", direction.norm, provenance), score


def random_direction(d_model: int, point: HookPoint, seed: int) -> Direction:
    """A direction uniform on the sphere, the control for every other. `norm` is 1."""
    vector = torch.randn(d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalised(vector / vector.norm(), point, "random", {"seed": seed})


def cosine(a: Direction, b: Direction) -> float:
    """Cosine of the angle between two directions (fp64)."""
    if a.d_model != b.d_model:
        raise AnachronError(f"directions of {a.d_model} and {b.d_model} entries; they come from different models")
    return float(a.vector.double() @ b.vector.double().to(a.vector.device))


def auroc(
    direction: Direction, positive: Float[Tensor, "n_pos d_model"], negative: Float[Tensor, "n_neg d_model"]
) -> float:
    """P(projection of a positive row > that of a negative one), ties counting one half."""
    _checked(positive=positive, negative=negative)
    if positive.shape[1] != direction.d_model:
        raise AnachronError(f"activations have {positive.shape[1]} entries, the direction {direction.d_model}")
    vector = direction.vector.double()
    high = positive.detach().double() @ vector.to(positive.device)
    low = (negative.detach().double() @ vector.to(negative.device)).sort().values
    below = torch.searchsorted(low, high, right=False) + torch.searchsorted(low, high, right=True)
    return float(below.double().mean() / (2 * len(low)))


def _checked(**sides: Float[Tensor, "_ _"]) -> None:
    """Refuse an empty side, NaN (naming the row) and sides of different models."""
    sizes = {name: rows.shape[1] for name, rows in sides.items()}
    if len(set(sizes.values())) > 1:
        raise AnachronError(
            f"activations differ in d_model, {sizes}; capture them all at one point of one architecture"
        )
    for name, rows in sides.items():
        if len(rows) == 0:
            raise AnachronError(f"{name} has no rows; check the prompts and positions it was captured at")
        bad = ~torch.isfinite(rows).all(dim=1)
        if bad.any():
            raise AnachronError(f"row {int(bad.nonzero()[0])} of {name} is NaN or infinite; capture it again")


def _means(**sides: Float[Tensor, "_ _"]) -> list[Float[Tensor, " d_model"]]:
    """fp64 means of checked activations."""
    _checked(**sides)
    return [rows.detach().double().mean(dim=0) for rows in sides.values()]


def _split(
    rows: Float[Tensor, "n d_model"], fraction: float, generator: torch.Generator, what: str
) -> tuple[Float[Tensor, "m d_model"], Float[Tensor, "k d_model"]]:
    kept = round(len(rows) * fraction)
    if not 0 < kept < len(rows):
        raise AnachronError(
            f"holding out {fraction} of {len(rows)} {what!r} rows leaves one side empty; give more rows"
        )
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    return rows[order[kept:]], rows[order[:kept]]


def _logistic(
    positive: Float[Tensor, "n_pos d_model"], negative: Float[Tensor, "n_neg d_model"], c: float
) -> Float[Tensor, " d_model"]:
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = torch.cat([positive, negative]).cpu().numpy()
    labels = [1] * len(positive) + [0] * len(negative)
    scaler = StandardScaler()
    model = LogisticRegression(C=c, max_iter=2000, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # non-convergence is an error here, raised below
        model.fit(scaler.fit_transform(rows), labels)
    if model.n_iter_[0] >= model.max_iter:
        raise AnachronError(f"the probe did not converge in {model.max_iter} steps; lower c (now {c})")
    return torch.from_numpy(model.coef_[0] / scaler.scale_)


def _safetensors_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise AnachronError(f"{path}: a direction is saved as .safetensors with a .json beside it; use that suffix")
    return path
