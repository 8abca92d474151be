"""The straightforward way of each stage that bench.py times: readable first, fast never.

Nothing here is meant to be fast, and nothing here may change when hpro_core gets faster: what both
compute from the same weights is compared at every run, and with what hpro_core computed before
(recorded.json, recorded.safetensors).
"""
