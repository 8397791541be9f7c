"""The fleet's side: what hosts are to be, what became of it, who said so. It describes changes and performs none."""
