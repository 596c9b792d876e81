"""The files of an embedded database: their modes, the lock file, and the WAL of a dead process.

New files are readable by their owner only, whatever the umask, because they contain TOTP secrets.
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
"""The mode of a new file. SQLite copies it to the WAL."""

_DAMAGED = (
    "The database {path} is damaged: {reason}. Restore a backup: tok0n database restore BACKUP --overwrite."
    " If you replaced the file by hand, {wal} may belong to the old file. The command removes it."
)


def resolve(path: Path) -> Path:
    """Resolve symbolic links. Raises `OperatorError`."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise OperatorError(f"Can't resolve the path of the database: {error}.") from error


def wal_files(path: Path) -> list[Path]:
    """Return the paths of the files that SQLite keeps beside the database."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def lock_file(path: Path) -> Path:
    """Return the path of the database's lock file."""
    return path.with_name(path.name + ".lock")


def create(path: Path) -> None:
    """Create the file, readable by its owner only, unless it exists."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, OWNER_ONLY))


def take_lock(path: Path) -> IO[bytes]:
    """Lock PATH.lock until the returned file is closed. If the process dies, the kernel releases the lock.

    Raises `OperatorError` if another server holds the lock or the file can't be opened.
    """
    lock_path = lock_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.fdopen(os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY), "ab")
    except OSError as error:
        raise OperatorError(
            f"Can't open the lock file {lock_path}: {error.strerror}. {_advice(lock_path, error)}"
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
            f"Can't lock the file {lock_path}: {error.strerror}. Put the database on a local disk."
        ) from error
    return lock


def check_left_over_wal(path: Path, *, serving: bool) -> None:
    """Check the database before SQLite checkpoints the WAL of a dead process into it. Raises `OperatorError`.

    If someone copied a backup over the database, the WAL belongs to the old file, and a checkpoint would destroy the
    new one. The check only reads, so it doesn't checkpoint.
    """
    wal = wal_files(path)[0]
    try:
        if not path.exists() or not wal.stat().st_size or not (serving or is_unlocked(path)):
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
    """Return the error for a database that can't be opened, with advice for the operator."""
    if isinstance(error, OSError):
        return OperatorError(f"Can't use the database {path}: {error.strerror}. {_advice(path, error)}")
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return OperatorError(_DAMAGED.format(path=path, wal=wal_files(path)[0].name, reason=error))
    advice = next((text for name, text in _ADVICE.items() if code.startswith(name)), "")
    return OperatorError(f"Can't use the database {path}: {error}. {advice}".rstrip())


_PERMISSION = "Allow this user to read and write it, and to create files in its folder."
_ADVICE = {
    "SQLITE_CANTOPEN": _PERMISSION,
    "SQLITE_READONLY": _PERMISSION,
    "SQLITE_PERM": _PERMISSION,
    "SQLITE_AUTH": _PERMISSION,
    "SQLITE_FULL": "Free some space on its disk.",
    "SQLITE_IOERR": "Check whether its disk is full or failing.",
    "SQLITE_BUSY": "Another program has locked it. Stop that program first.",
}


def _advice(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "It is a folder. Remove it, or change database.url."
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return _PERMISSION
        case errno.EROFS:
            return "Its file system is read-only. Choose another database.url."
        case errno.ENOSPC | errno.EDQUOT:
            return "Free some space on its disk."
    return "Choose another database.url."


def is_unlocked(path: Path) -> bool:
    """Whether no server holds the database's lock file."""
    try:
        with lock_file(path).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
