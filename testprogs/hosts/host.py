"""A Python program with Go inside: host.py FOLDER LIBRARY."""

import ctypes
import sys

ctypes.CDLL(sys.argv[2]).park_all(sys.argv[1].encode())
