"""The machine, real or pretended, behind one narrow interface."""
