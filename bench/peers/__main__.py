from __future__ import annotations
import sys
from bench.peers import environments
environments.install(sys.argv[2:])
