"""Narrow data sets to fine-tune on, one file each, with their controls."""
