"""One module for each command; `aquiline.cli.listing` names them all."""
