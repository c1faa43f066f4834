"""s3fs with a single layer of retries.

botocore repeats requests that the store refuses for a while (500, 502, 503, 504, throttling) or
that get no answer, with growing, jittered pauses; permanent refusals (403, 404, 412) are never
repeated. s3fs repeats reading a body that breaks off. Left alone, s3fs would also repeat
every request that botocore has given up on, so that attempts multiply into hours.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS
from s3fs.errors import translate_boto_error
from s3fs.utils import FileExpired

from lightsans.errors import AccessError, ConfigError, StorageError

_FIRST_SERVER_ERROR = 500
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 20.0
_WITHOUT_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
    SSOError,
)
_THROTTLED = {"SlowDown", "RequestTimeout", "Throttling", "TooManyRequests", "RequestLimitExceeded"}


class PatientS3FileSystem(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """An S3 filesystem whose requests are attempted ``max_attempts`` times, no more."""

    def __init__(self, *, max_attempts: int, timeout_s: float, **settings: Any) -> None:
        retries = {"total_max_attempts": max_attempts, "mode": "standard"}
        timeouts = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
        super().__init__(config_kwargs={"retries": retries, **timeouts}, **settings)
        self.retries = max_attempts  # of reading a body

    async def _call_s3(self, method: str, *settings: Any, **arguments: Any) -> Any:
        """One request, as s3fs makes it but for the repetitions.

        Raises:
            StorageError: All attempts failed.
            ConfigError: The name of the bucket is malformed.
            AccessError: There are no credentials, or they do not suffice.
            OSError: The store refuses for another reason; `FileNotFoundError` among others.
        """
        try:
            await self.set_session()
            client = await self.get_s3(arguments.get("Bucket"))
            function = getattr(client, method)
            arguments = self._get_s3_method_kwargs(function, *settings, **arguments)
            return await function(**arguments)
        except ClientError as error:
            if _is_passing(error):
                raise _given_up(error, arguments, self.retries) from error
            if error.response["Error"].get("Code") == "InvalidBucketName":
                raise _malformed(error, arguments) from error
            refused = translate_boto_error(error)
            if isinstance(refused, PermissionError):
                raise _no_access(refused, arguments) from error
            raise refused from error
        except _WITHOUT_CREDENTIALS as error:
            raise _no_access(error, arguments) from error
        except ParamValidationError as error:  # no request was made
            raise _malformed(error, arguments) from error
        except BotoCoreError as error:
            raise _given_up(error, arguments, self.retries) from error

    call_s3 = sync_wrapper(_call_s3)

    async def _read_with_etag(self, bucket: str, key: str) -> tuple[bytes, str]:
        """The content of a small object and its etag, both from one answer.

        Raises:
            StorageError: The body broke off in every attempt.
            OSError: As `_call_s3`.
        """
        name = {"Bucket": bucket, "Key": key}
        for attempt in range(self.retries):
            response = await self._call_s3("get_object", **name)
            try:
                async with response["Body"] as body:
                    return await body.read(), response["ETag"]
            except S3_RETRYABLE_ERRORS as error:  # the attempts of a request end with the header
                broken: Exception = error
                await asyncio.sleep(min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
        raise _given_up(broken, name, self.retries) from broken

    read_with_etag = sync_wrapper(_read_with_etag)

    async def _cat_file(self, path: str, *settings: Any, **arguments: Any) -> bytes:
        """The content of an object, or of a range of it, in one request.

        s3fs asks for the size of a whole object first, and where there is none lists what is below.
        """
        if settings or arguments:
            ranged: bytes = await super()._cat_file(path, *settings, **arguments)
            return ranged
        bucket, key, _ = self.split_path(path)
        return (await self._read_with_etag(bucket, key))[0]

    def _open(
        self, path: str, mode: str = "rb", *settings: Any, etag: str | None = None, **arguments: Any
    ) -> Any:
        """An open file, as s3fs opens it: every range that it reads is of one version.

        With ``size`` and ``etag`` that is the version listed, and the store is asked for ranges
        alone.
        """
        opened = super()._open(path, mode, *settings, **arguments)
        if etag is not None:
            version = f'"{etag}"'
            opened.details = {"name": path, "type": "file", "size": opened.size, "ETag": version}
            opened.read_kw = {**opened.read_kw, "IfMatch": version}
        if "r" in mode:
            # The cache took the method of s3fs when it was made: replacing that one has no effect.
            opened.cache.fetcher = partial(_fetch_range, opened.cache.fetcher, f"s3://{path}")
        return opened


def _fetch_range(fetch: Callable[[int, int], bytes], uri: str, start: int, end: int) -> bytes:
    try:
        return fetch(start, end)
    except FileExpired as error:
        raise StorageError(
            f"{uri}: the object was replaced while it was being read; run the same command again "
            "when nobody writes to it"
        ) from error


def _is_passing(error: ClientError) -> bool:
    """Whether the answer says that the same request may succeed later."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return status >= _FIRST_SERVER_ERROR or error.response["Error"].get("Code") in _THROTTLED


def _uri(arguments: dict[str, Any]) -> str:
    """The object or prefix that a request named."""
    key = arguments.get("Key") or arguments.get("Prefix") or ""
    return f"s3://{arguments.get('Bucket', '')}/{key}"


def _malformed(error: Exception, arguments: dict[str, Any]) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"{_uri(arguments)}: S3 refuses this address: {reason}. Correct the bucket")


def _no_access(error: Exception, arguments: dict[str, Any]) -> AccessError:
    return AccessError(
        f"{_uri(arguments)}: no access: {str(error).rstrip('.')}. Credentials come from "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, storage.profile or a role; "
        "storage.anonymous=true reads public buckets without any. They must allow s3:ListBucket: "
        "without it S3 says the same of an object that does not exist"
    )


def _given_up(error: Exception, arguments: dict[str, Any], attempts: int) -> StorageError:
    return StorageError(
        f"{_uri(arguments)}: gave up after {attempts} attempts "
        f"(storage.max_attempts), the last one with: {error}. Check storage.endpoint_url and the "
        "network, then run the same command again: it goes on from what is finished"
    )
