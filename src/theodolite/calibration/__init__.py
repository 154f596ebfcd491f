"""Estimators of uncertainty: calibrated probabilities, confidence scores and selection rules, one method per file.

A file whose name begins with `_` holds code that several methods share.
"""
