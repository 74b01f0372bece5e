"""Figures: functions that take measurements and return a plotly figure (or SVG text). One figure a file; none measures."""
