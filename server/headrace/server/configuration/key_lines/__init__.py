"""The lines on which the keys of a file stand: the libraries that read the files do not tell.

Each function takes a text that such a library has accepted, and skips what it has checked.
"""
