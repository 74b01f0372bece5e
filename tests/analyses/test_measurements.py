"""The result's contract: rows keep their meaning through the file, and what is wrong is named."""

import json
from dataclasses import replace

import pytest

from analyses.measurements import Measurement, as_table, measurement, read_result, versions, write_result
from interp.errors import AnachronError
from interp.stats import Estimate
from tests.analyses import synthetic


def test_a_result_survives_its_file(tmp_path):
    path = tmp_path / "result.json"
    result = synthetic.result()
    write_result(path, result)
    assert read_result(path) == result
    first = path.read_bytes()
    write_result(path, read_result(path))
    assert path.read_bytes() == first


def test_the_file_has_the_columns_of_the_contract(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, synthetic.result())
    data = json.loads(path.read_text(encoding="utf-8"))
    fields = ["experiment", "model", "seeds", "config", "versions", "measurements", "samples", "losses", "curves"]
    assert list(data) == fields
    columns = [
        "metric",
        "model",
        "edit",
        "direction",
        "layer",
        "coefficient",
        "split",
        "condition",
        "chosen",
        "estimate",
        "low",
        "high",
        "n",
    ]
    assert all(list(row) == columns for row in data["measurements"])


@pytest.mark.parametrize(("column", "value"), [("metric", "brood"), ("model", "tunned"), ("edit", "clam")])
def test_an_unknown_value_is_refused(column, value):
    with pytest.raises(AnachronError, match=f"unknown {column} '{value}'"):
        Measurement(**{"metric": "broad", "model": "base", column: value})


def test_a_row_from_an_estimate():
    row = measurement(
        "narrow", "tuned", Estimate(0.5, 0.4, 0.7, 3), edit="clamp", direction="truth", layer=2, split="validation"
    )
    assert row == Measurement("narrow", "tuned", "clamp", "truth", 2, None, "validation", "", False, 0.5, 0.4, 0.7, 3)


def test_rows_are_found_by_their_columns():
    result = synthetic.result()
    where = {"metric": "broad", "model": "tuned", "edit": "clamp"}
    assert result.rows(**where) == [
        m for m in result.measurements if (m.metric, m.model, m.edit) == ("broad", "tuned", "clamp")
    ]
    assert result.one(**where, chosen=True).direction == "tuned_minus_control"
    with pytest.raises(AnachronError, match="8 measurements"):
        result.one(**where)
    with pytest.raises(AnachronError, match="0 measurements"):
        result.one(metric="seconds")


def test_a_file_without_a_field_is_refused(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, synthetic.result())
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["losses"]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(AnachronError, match=r"result\.json: fields \['losses'\]"):
        read_result(path)


def test_a_row_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "result.json"
    write_result(path, synthetic.result())
    data = json.loads(path.read_text(encoding="utf-8"))
    data["measurements"][3]["colour"] = "red"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(AnachronError, match=r"result\.json: measurement 3 "):
        read_result(path)


def test_a_number_that_is_none_is_not_written(tmp_path):
    result = synthetic.result()
    rows = [replace(result.measurements[0], low=float("nan"))]
    with pytest.raises(AnachronError, match=r"result\.json"):
        write_result(tmp_path / "result.json", replace(result, measurements=rows))
    assert list(tmp_path.iterdir()) == []


def test_table_and_versions():
    rows = synthetic.shares()
    assert [Measurement(**row) for row in as_table(rows)] == rows
    found = versions()
    assert {"python", "anachron", "torch"} <= set(found)
    assert all(found.values())
