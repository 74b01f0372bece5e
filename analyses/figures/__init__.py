"""Figures: functions that take measurements and return a plotly figure (or SVG text), one figure a file."""
