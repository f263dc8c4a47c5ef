"""The small maths of DETR in NumPy float64: the oracle that both twins and `boxes`, `matching` are held against.

Written from the paper (arXiv 2005.12872) and the definitions, one scalar at a time where that is clearer. It shares no
line with the code that it judges; nothing here is fast.
"""
