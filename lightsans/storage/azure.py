"""Azure's Blob Storage and Data Lake (``abfs://``) as a filesystem of fsspec, by obstore.

The environment says account and credentials, as for Azure's own tools: an account's name with a
key, a SAS token, a service principal, a workload's or a machine's identity. obstore repeats what
passes by itself, ``max_attempts`` times, and writes on a condition.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile
from obstore import exceptions
from obstore.store import AzureStore

from lightsans.errors import AccessError, ConfigError, StorageError

Entry = dict[str, Any]

_CONTAINER = re.compile(r"\$root|\$web|\$logs|[a-z0-9](?:-?[a-z0-9]){2,62}")
_ACCOUNT_MISSING = "Account must be specified"
_NO_CONTAINER = "ContainerNotFound"
_AT_ONCE = 1000
_CREDENTIALS = (
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, a service "
    "principal (AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_TENANT_ID) or the identity of the "
    "machine; storage.anonymous=true reads public containers without any"
)


class AzureFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Containers and blobs of an account; paths are ``container/key``.

    Args:
        account: Name of the account; None takes that of the environment.
        anonymous: Send no credentials.
        max_attempts: Attempts at a request.
        timeout_s: Seconds until an attempt fails.
    """

    cachable = False
    protocol = "abfs"

    def __init__(
        self, *, account: str | None, anonymous: bool, max_attempts: int, timeout_s: float
    ) -> None:
        super().__init__()
        self._stores: dict[str, AzureStore] = {}
        self._settings: dict[str, Any] = {
            # Only a server that AZURE_STORAGE_ENDPOINT names is ever asked without TLS.
            "client_options": {"timeout": timedelta(seconds=timeout_s), "allow_http": True},
            "retry_config": {"max_retries": max_attempts - 1},
        }
        if account is not None:
            self._settings["account_name"] = account
        if anonymous:
            self._settings["skip_signature"] = True

    def place(self, path: str) -> tuple[AzureStore, str]:
        """The container that a path names, and the key in it.

        Raises:
            ConfigError: No container can have such a name.
            AccessError: Nothing says which account it is in.
        """
        container, _, key = self._strip_protocol(path).partition("/")
        if container not in self._stores:
            if _CONTAINER.fullmatch(container) is None:
                raise ConfigError(
                    f"abfs://{path}: {container!r} cannot be the name of a container; expected 3 "
                    "to 63 lower-case letters, digits and single hyphens"
                )
            with told(path):
                self._stores[container] = AzureStore(container, **self._settings)
        return self._stores[container], key

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Files and directories directly below a path, or the file itself."""
        store, key = self.place(path)
        with told(path):
            found = obstore.list_with_delimiter(store, prefix=key or None)
        container = self._container(path)
        entries = [_directory(f"{container}/{name}") for name in found["common_prefixes"]]
        entries += [_file(container, each) for each in found["objects"]]
        if not entries and key:
            entries = [self._head(path)]
        entries.sort(key=lambda entry: str(entry["name"]))
        return entries if detail else [entry["name"] for entry in entries]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **options: Any
    ) -> Any:
        """All files below a path, or the file itself; see fsspec."""
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth, withdirs, **options)
        store, key = self.place(path)
        container = self._container(path)
        with told(path):
            stream = obstore.list(store, prefix=key or None, chunk_size=_AT_ONCE)
            found = [_file(container, each) for chunk in stream for each in chunk]
        if not found and key:
            try:
                found = [self._head(path)]
            except FileNotFoundError:
                found = []
        entries = {str(entry["name"]): entry for entry in sorted(found, key=lambda e: e["name"])}
        return entries if options.get("detail") else list(entries)

    def info(self, path: str, **_: Any) -> Entry:
        """Size and etag of a file; a directory is there where something is below it."""
        path = self._strip_protocol(path)
        store, key = self.place(path)
        if key:
            try:
                return self._head(path)
            except FileNotFoundError:
                pass
        with told(path):
            found = obstore.list_with_delimiter(store, prefix=key or None)
        if key and not (found["objects"] or found["common_prefixes"]):
            raise FileNotFoundError(f"abfs://{path}")
        return _directory(path)

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is a file or a directory."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def isdir(self, path: str) -> bool:
        """Whether there is a directory."""
        try:
            return bool(self.info(path)["type"] == "directory")
        except FileNotFoundError:
            return False

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The content of a file, or some bytes of it; fewer where it is shorter."""
        store, key = self.place(path)
        if start is None and end is None:
            with told(path):
                return bytes(obstore.get(store, key).bytes())
        size = int(self._head(path)["size"])
        first, last, _step = slice(start, end).indices(size)
        return self.read_range(path, first, last, None)

    def read_range(self, path: str, start: int, end: int, etag: str | None) -> bytes:
        """Bytes of a file, of a version of it where an etag is given."""
        if start >= end:
            return b""
        store, key = self.place(path)
        options: Any = {"range": (start, end)} | ({"if_match": etag} if etag else {})
        try:
            with told(path):
                return bytes(obstore.get(store, key, options=options).bytes())
        except exceptions.PreconditionError as error:
            raise StorageError(
                f"abfs://{path}: the blob was replaced while it was being read; run the same "
                "command again when nobody writes to it"
            ) from error

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        """Upload a file; it appears whole."""
        store, key = self.place(rpath)
        with told(rpath), open(lpath, "rb") as file:
            obstore.put(store, key, file)

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        """Write a file."""
        store, key = self.place(path)
        with told(path):
            obstore.put(store, key, value)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file within a container, or through here to another one."""
        (source, key), (target, other) = self.place(path1), self.place(path2)
        if source is not target:
            self.pipe_file(path2, self.cat_file(path1))
            return
        with told(path1):
            obstore.copy(source, key, other)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        store, key = self.place(path)
        with told(path):
            obstore.delete(store, key)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove a file, or all files below a path; their names are literal."""
        for each in self.find(path) if recursive else [path]:
            self.rm_file(each)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> "AzureFile":
        if mode not in ("rb", "wb"):
            raise NotImplementedError(mode)
        return AzureFile(self, path, mode, **options)

    def _container(self, path: str) -> str:
        return str(self._strip_protocol(path).partition("/")[0])

    def _head(self, path: str) -> Entry:
        store, key = self.place(path)
        with told(path):
            return _file(self._container(path), obstore.head(store, key))


class AzureFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """An open blob: every range that it reads is of one version; what is written appears whole.

    Our own writes go up as files (`Location.open_atomic`); Ray's, which are small, come through
    here, and are in memory until they are closed.
    """

    def _fetch_range(self, start: int, end: int) -> bytes:
        filesystem: AzureFileSystem = self.fs
        return filesystem.read_range(self.path, start, end, self.details["etag"])

    def _upload_chunk(self, final: bool = False) -> bool:
        if final:
            self.fs.pipe_file(self.path, self.buffer.getvalue())
        return final


def _file(container: str, meta: Any) -> Entry:
    return {
        "name": f"{container}/{meta['path']}",
        "size": meta["size"],
        "type": "file",
        "etag": str(meta["e_tag"]).strip('"'),
        "last_modified": meta["last_modified"],
    }


def _directory(path: str) -> Entry:
    return {"name": path.rstrip("/"), "size": 0, "type": "directory"}


@contextmanager
def told(path: str) -> Iterator[None]:
    """Within the block, what Azure refuses is an error that names the path.

    Raises:
        ConfigError: No blob can have such a name.
        AccessError: There are no credentials, or they do not suffice.
        StorageError: All attempts failed.
        FileNotFoundError: There is no such blob or container.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"abfs://{path}") from None
    except (exceptions.PreconditionError, exceptions.AlreadyExistsError):
        raise
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise AccessError(
            f"abfs://{path}: no access: {_words(error)}. Credentials are {_CREDENTIALS}"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"abfs://{path!r}: no name for a blob: {_words(error)}; give it another one"
        ) from error
    except exceptions.BaseError as error:
        if _NO_CONTAINER in str(error):
            raise FileNotFoundError(f"abfs://{path}: no such container") from None
        if _ACCOUNT_MISSING in str(error):
            raise AccessError(
                f"abfs://{path}: of which account? Give {_CREDENTIALS}; or name the account: "
                "abfs://container@account.dfs.core.windows.net/path"
            ) from error
        raise StorageError(
            f"abfs://{path}: gave up (storage.max_attempts): {_words(error)}. Check the network, "
            "then run the same command again: it goes on from what is finished"
        ) from error


def _words(error: BaseException) -> str:
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:400].rstrip(".")
