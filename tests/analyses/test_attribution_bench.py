"""The cost of screens: ratios to the exact loops, small where there is much to screen."""

from analyses.bench.attribution import attribution_screens
from interp.models import load_model


def test_a_screen_costs_less_than_the_loop_it_replaces():
    latents, cells = attribution_screens(load_model("almanac"), repeats=1, quick=True)
    assert latents.met and latents.b is not None and latents.median == latents.a / latents.b
    assert cells.b is not None and cells.median == cells.a / cells.b and "4 cells" in cells.subject
