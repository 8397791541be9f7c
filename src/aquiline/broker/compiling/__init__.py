"""Compilers: from the files of a commit to one profile for each host.

A compiler reads a folder and nothing else, and the same folder gives the same profiles. A host that does not compile
never stands in the way of another: for each host that was asked for there is either a profile or what is wrong.
"""

from aquiline.broker.compiling.layers import Layers
from aquiline.broker.compiling.outcome import Compiled, CompileFailed, Compiler
from aquiline.broker.compiling.pan import Pan
from aquiline.broker.compiling.schemas import Checked, Schemas

__all__ = ["Checked", "CompileFailed", "Compiled", "Compiler", "Layers", "Pan", "Schemas"]
