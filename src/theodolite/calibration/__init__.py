"""When to rely on a reading: calibrated probabilities, confidence scores and admission rules, one method per file.

A file whose name begins with `_` is shared by several methods and is none itself.
"""
