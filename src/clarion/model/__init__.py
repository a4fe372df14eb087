"""Kubernetes and metallb.io objects as frozen structs, their codec, and the schemas made from them.

Pure.
"""
