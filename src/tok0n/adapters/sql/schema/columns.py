"""The types and options that the tables share."""

from typing import Any

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData()

Big = BigInteger().with_variant(Integer, "sqlite")
STRICT: dict[str, Any] = {"sqlite_strict": True}
WITHOUT_ROWID: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
