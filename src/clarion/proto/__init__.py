"""Protocol machines without I/O.

Bytes and `now` come in; events, bytes and the next deadline go out.
"""
