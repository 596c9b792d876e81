"""The files of an embedded database: their modes, the lock file, and a WAL that a dead process left.

New files belong to their owner alone, whatever the umask: they hold secrets of two-factor authentication.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from tok0n.domain.errors import OperatorError

OWNER_ONLY = 0o600
"""The mode of a new file; SQLite gives the same to the WAL beside it."""

_DAMAGED = (
    "The database {path} is damaged: {reason}. Restore a backup: tok0n database restore BACKUP --overwrite."
    " If you copied a file there by hand, {wal} may belong to the file before it: that command removes it."
)


def resolve(path: Path) -> Path:
    """The file itself, with symbolic links followed. Raises `OperatorError`."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise OperatorError(f"The path of the database cannot be resolved: {error}.") from error


def wal_files(path: Path) -> list[Path]:
    """What SQLite keeps beside the database at `path`."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def lock_file(path: Path) -> Path:
    """The lock file of the database at `path`."""
    return path.with_name(path.name + ".lock")


def create(path: Path) -> None:
    """Create the file, readable by its owner alone, unless it exists."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, OWNER_ONLY))


def take_lock(path: Path) -> IO[bytes]:
    """Hold PATH.lock for as long as this process lives: the kernel releases it however the process ends.

    Raises `OperatorError` when another server holds it, or it cannot be opened.
    """
    lock_path = lock_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.fdopen(os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY), "ab")
    except OSError as error:
        raise OperatorError(
            f"The lock file {lock_path} cannot be opened: {error.strerror}. {_advice(lock_path, error)}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OperatorError(
            f"Another server is using {path}. Stop it first, or give this one its own database.url."
        ) from None
    except OSError as error:
        lock.close()
        raise OperatorError(
            f"The lock file {lock_path} cannot be locked: {error.strerror}. Put the database on a local disk."
        ) from error
    return lock


def check_left_over_wal(path: Path, *, serving: bool) -> None:
    """Check the database before a WAL that a dead process left is written into it. Raises `OperatorError`.

    A WAL that belongs to another copy of the database, as when a backup was put back beside it, damages the file for
    good once it is checkpointed. Reading alone does not checkpoint.
    """
    wal = wal_files(path)[0]
    try:
        if not path.exists() or not wal.stat().st_size or not (serving or nobody_serves(path)):
            return
    except FileNotFoundError:
        return
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        reason = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        reason = str(error)
    finally:
        connection.close()
    if reason != "ok":
        raise OperatorError(_DAMAGED.format(path=path, wal=wal.name, reason=reason.replace("\n", " ")))


def unusable(path: Path, error: BaseException) -> OperatorError:
    """What to tell the operator whose database cannot be opened."""
    if isinstance(error, OSError):
        return OperatorError(f"The database {path} cannot be used: {error.strerror}. {_advice(path, error)}")
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return OperatorError(_DAMAGED.format(path=path, wal=wal_files(path)[0].name, reason=error))
    advice = next((words for name, words in _ADVICE.items() if code.startswith(name)), "")
    return OperatorError(f"The database {path} cannot be used: {error}. {advice}".rstrip())


_PERMISSION = "Allow this user to read and write it, and to create files in its folder."
_ADVICE = {
    "SQLITE_CANTOPEN": _PERMISSION,
    "SQLITE_READONLY": _PERMISSION,
    "SQLITE_PERM": _PERMISSION,
    "SQLITE_AUTH": _PERMISSION,
    "SQLITE_FULL": "Free some space on its disk.",
    "SQLITE_IOERR": "Check whether its disk is full or failing.",
    "SQLITE_BUSY": "Another program has locked it. End that program first.",
}


def _advice(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "It is a folder. Remove it, or change database.url."
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return _PERMISSION
        case errno.EROFS:
            return "Its file system is read-only: choose another database.url."
        case errno.ENOSPC | errno.EDQUOT:
            return "Free some space on its disk."
    return "Choose another database.url."


def nobody_serves(path: Path) -> bool:
    """Whether no server holds the lock file."""
    try:
        with lock_file(path).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
