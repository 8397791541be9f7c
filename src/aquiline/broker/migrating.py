"""The broker's database brought to the version of this program, by Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from aquiline.errors import AquilineError

_PLACE = Path(__file__).with_name("migrations")


def migrate(engine: Engine) -> None:
    """Bring the tables of a database up to date; two brokers that start at once do it one after the other.

    Raises:
        AquilineError: a newer version of this program has migrated it.
    """
    with engine.begin() as connection:
        try:
            command.upgrade(configuration(connection), "head")
        except CommandError as error:
            raise AquilineError(f"the database is of another version: {error}", hint="upgrade aquiline") from None
        except SQLAlchemyError as error:
            raise AquilineError(f"the database could not be brought up to date: {error}") from error


def configuration(connection: Connection) -> Config:
    """Return Alembic's configuration for a connection."""
    found = Config()
    found.set_main_option("script_location", str(_PLACE))
    found.attributes["connection"] = connection
    return found
