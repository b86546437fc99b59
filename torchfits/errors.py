"""The exceptions and the one warning category of torchfits.

Every error carries where it happened: ``path``, ``hdu`` (index or name), ``offset`` (byte in the
file, where one is to blame), ``status`` (of ``library``, cfitsio or wcslib; 0 where neither spoke) and
``messages`` (the library's own lines).
"""

from __future__ import annotations

import os


class FitsWarning(UserWarning):
    """A file departs from the FITS standard in a way that leaves its data unambiguous."""


class FitsError(Exception):
    """Base of all torchfits errors.

    Args:
        message: What is wrong, naming the keyword or column where one is to blame.
        path: The file.
        hdu: Index or name of the HDU.
        offset: Byte offset in the (decompressed) file.
        status: Status of the C library, 0 where none was involved.
        library: Which library that is.
        messages: The C library's own messages, oldest first.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str | bytes | os.PathLike | None = None,
        hdu: int | str | tuple | None = None,
        offset: int | None = None,
        status: int = 0,
        library: str = "cfitsio",
        messages: tuple[str, ...] = (),
    ):
        super().__init__(message)
        self.message = message
        self.path = path
        self.hdu = hdu
        self.offset = offset
        self.status = status
        self.library = library
        self.messages = tuple(messages)

    def locate(
        self,
        *,
        path: str | bytes | os.PathLike | None = None,
        hdu: int | str | tuple | None = None,
        offset: int | None = None,
    ) -> None:
        """Fill in what a lower layer could not know; what it knew stays."""
        if self.path is None:
            self.path = path
        if self.hdu is None:
            self.hdu = hdu
        if self.offset is None:
            self.offset = offset

    def __str__(self) -> str:
        where = [] if self.path is None else [os.fsdecode(self.path)]
        if self.hdu is not None:
            where.append(f"HDU {self.hdu!r}")
        if self.offset is not None:
            where.append(f"byte {self.offset}")
        text = f"{', '.join(where)}: {self.message}" if where else self.message
        if self.status:
            said = f": {'; '.join(self.messages)}" if self.messages else ""
            text += f" ({self.library} status {self.status}{said})"
        return text

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.message, self.__dict__.copy())


class FitsIOError(FitsError, OSError):
    """The operating system refused, or the bytes ended early; ``errno`` is kept where there is one."""


class FitsFileNotFound(FitsIOError, FileNotFoundError):
    """No such file."""


class FitsFileExists(FitsIOError, FileExistsError):
    """The file is there already, and overwriting was not asked for."""


class FitsFormatError(FitsError, ValueError):
    """The bytes are not what the FITS standard says they must be, or an argument does not fit them."""


class SectionError(FitsFormatError, IndexError):
    """A section, row slice or column name that the data do not have."""


class FilterError(FitsFormatError):
    """A row filter that cannot be understood, or that does not fit the columns; shows the place."""


class KeywordMissing(FitsError, KeyError):
    """A header lacks the keyword asked for."""


class HduMissing(FitsError, KeyError, IndexError):
    """The file has no such HDU."""


class FitsUnsupported(FitsError, NotImplementedError):
    """Legal FITS, or a legal wish, that this version cannot serve; the message says why."""


def _rebuild(cls: type[FitsError], message: str, state: dict) -> FitsError:
    error = cls(message)
    error.__dict__.update(state)
    return error


def os_error(error: OSError, doing: str, path: str | bytes | os.PathLike | None = None) -> FitsIOError:
    """The FitsIOError that says what `error` said, errno and all."""
    cls = FitsFileNotFound if isinstance(error, FileNotFoundError) else FitsIOError
    new = cls(f"{doing}: {error.strerror or error}", path=path)
    new.errno, new.strerror, new.filename = error.errno, error.strerror, path
    return new


# cfitsio status -> class; what is not listed is FitsFormatError: the bytes displeased it
CLASS_OF_STATUS: dict[int, type[FitsError]] = {
    101: FitsIOError,  # SAME_FILE
    103: FitsIOError,  # TOO_MANY_FILES
    104: FitsIOError,  # FILE_NOT_OPENED
    105: FitsIOError,  # FILE_NOT_CREATED
    106: FitsIOError,  # WRITE_ERROR
    107: FitsFormatError,  # END_OF_FILE
    108: FitsIOError,  # READ_ERROR
    110: FitsIOError,  # FILE_NOT_CLOSED
    112: FitsIOError,  # READONLY_FILE
    113: FitsIOError,  # MEMORY_ALLOCATION
    116: FitsIOError,  # SEEK_ERROR
    202: KeywordMissing,  # KEY_NO_EXIST
    301: HduMissing,  # BAD_HDU_NUM
}
