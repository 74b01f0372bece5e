"""Slow bfloat16 is told, with what to do, where it was chosen on a CPU and is slow there."""

import pytest

from analyses import processor


@pytest.mark.parametrize(
    ("precision", "device", "ratio", "told"),
    [("bfloat16", "cpu", 50.0, True), ("bfloat16", "cpu", 0.6, False), ("float32", "cpu", 50.0, False)],
)
def test_it_is_told_where_it_matters(monkeypatch, precision, device, ratio, told):
    monkeypatch.setattr(processor, "bfloat16_ratio", lambda: ratio)
    warning = processor.bfloat16_warning(precision, device)
    assert bool(warning) == told and (not told or ("50 times" in warning and "--precision float32" in warning))


def test_nothing_is_measured_for_another_device(monkeypatch):
    monkeypatch.setattr(processor, "bfloat16_ratio", lambda: pytest.fail("measured"))
    assert processor.bfloat16_warning("bfloat16", "cuda") == ""


def test_the_ratio_is_of_two_times():
    assert processor.bfloat16_ratio(16) > 0
