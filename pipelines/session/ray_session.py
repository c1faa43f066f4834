"""Ray as the stages use it: the cluster at hand, or an embedded one; errors as they were raised."""

import atexit
import getpass
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lightsans.errors import LightSANsError
from lightsans.scratch import remove_directories
from pipelines.console.interruption import call_at_end, received
from pipelines.console.logs import adopt_ray_loggers
from pipelines.console.raw_lines import spend_warning_on_arguments
from pipelines.embedded.start import quick_start
from pipelines.embedded.workers import end_fork_server
from pipelines.session.clusters import ClusterUnreachableError, is_cluster, require_cluster
from pipelines.session.cpus import machine_cpus
from pipelines.session.directories import make_ray_directories

if TYPE_CHECKING:  # who does not need Ray Data starts .4 s sooner without it
    from ray.data import Dataset

EMBEDDED_CPUS = 4
"""Least logical CPUs of an embedded Ray: with fewer, train workers leave none for other tasks."""


def ensure_ray(memory_bytes: int | None = None) -> None:
    """Connect to the cluster of ``RAY_ADDRESS`` (set inside a Ray job), or start an embedded one.

    Does nothing when Ray is already connected. An embedded Ray ends with this process, and leaves
    no file.

    Args:
        memory_bytes: Memory that an embedded Ray may use (``resources.memory_bytes``): a quarter
            for its object store, which spills beyond, the rest for tasks; None for Ray's choice.

    Raises:
        ConfigError: ``RAY_ADDRESS`` is no address, or that of a dashboard; or there is no place for
            the files of an embedded Ray.
        StorageError: No cluster answers at ``RAY_ADDRESS``, or no disk for temporary files has
            room.
        LightSANsError: An embedded Ray did not start in its time.
    """
    adopt_ray_loggers()
    if not ray.is_initialized():
        call_at_end(_end_now)
        if is_cluster():
            address = os.environ["RAY_ADDRESS"]
            require_cluster(address)
            try:
                _init(log_to_driver=False, logging_level=logging.WARNING)
            except ConnectionError as error:
                raise ClusterUnreachableError(
                    f"RAY_ADDRESS={address}: {str(error).splitlines()[0]}; start the cluster, or "
                    "unset RAY_ADDRESS to run on this machine"
                ) from None
        else:
            _start_embedded(memory_bytes)
        spend_warning_on_arguments()


def _start_embedded(memory_bytes: int | None) -> None:
    # Says only that this Ray, which is private, made itself a token.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    # Ray's 15 lets workers starve beside any other process of a small machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # No machine is taken away from a Ray of one machine: an actor less to start for a training.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    atexit.register(end_embedded)  # before Ray's own, which it registers later
    directories = make_ray_directories()
    temporary = _temporary_files_in(f"{directories.scratch}/tmp")
    with temporary, quick_start(), _told_if_late():
        _init(
            address="local",  # not one that happens to run on this machine
            num_cpus=max(EMBEDDED_CPUS, machine_cpus()),
            object_store_memory=None if memory_bytes is None else memory_bytes // 4,
            _memory=None if memory_bytes is None else memory_bytes * 3 // 4,
            _temp_dir=directories.sessions,
            object_spilling_directory=directories.scratch,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )


@contextmanager
def _told_if_late() -> Iterator[None]:
    """Tell in a line that Ray did not start, which it says by exceptions of no class of its own."""
    try:
        yield
    except Exception as error:
        if type(error) not in (Exception, RuntimeError, TimeoutError, ConnectionError):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise LightSANsError(
            f"a Ray on this machine did not start: {reason} Its processors or memory may be taken "
            "by others: run the same command again when they are free, or set RAY_ADDRESS to a "
            "cluster that runs"
        ) from error


def end_embedded() -> None:
    """Stop an embedded Ray, and remove its files; called at the end of the process."""
    number = received()
    if number is not None:
        _end_now()
        sys.stdout.flush()
        os._exit(128 + number)  # Ray would miss its processes, and say so
    ray.shutdown()
    end_fork_server()
    remove_directories()


def _end_now() -> None:
    """End the processes that this one has started, and remove their files; wait for nothing.

    They are stopped first: none may write a file while files are removed, and Ray, which ends this
    process when it misses its own, must not come first.
    """
    import psutil  # Ray brings it along

    started = psutil.Process().children(recursive=True)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGSTOP:
            remove_directories()


@contextmanager
def _temporary_files_in(directory: str) -> Iterator[None]:
    """Let processes that the block starts leave temporary files in a directory that is removed."""
    values = {"TMPDIR": directory}
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:  # compiled code is of use to the next command
        user = re.sub(r"[^A-Za-z0-9_.-]", "_", getpass.getuser())
        values["TORCHINDUCTOR_CACHE_DIR"] = f"{tempfile.gettempdir()}/torchinductor_{user}"
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _init(**arguments: Any) -> None:
    """Call `ray.init`, and keep this process's own handling of SIGTERM, which Ray replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    # A task's error is told once, where it is asked for; Ray would print its traceback for every
    # other result of the task that nobody asks for any more.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    ray.init(**arguments)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def on_this_machine() -> NodeAffinitySchedulingStrategy:
    """Placement of an actor that is of no use without this process: on this machine."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)


def configure_ray_data() -> None:
    """Set Ray Data up: whoever uses it calls this first, and nobody else waits for its import."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False  # ours know what a part is
    context.print_on_execution_start = False
    context.shuffle_input_batch_bytes = 64 << 20  # the default asks for 2 GiB a task
    # They advise users on the memory of tasks, which ours ask for by `TASK_BYTES`.
    context.issue_detectors_config.detectors = []
    context.shuffle_compression = "none"  # what we exchange is compressed already
    # Wrapped, an error would lose its cause on the way from the worker.
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Says only that Ray's progress bars are off, which we asked for.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    for name in ("exceptions", "_internal.execution.streaming_executor_state"):
        logging.getLogger(f"ray.data.{name}").addFilter(_hide_own_errors)


def _hide_own_errors(record: logging.LogRecord) -> bool:
    """Keep what Ray says about our own errors off the console: their message says it all."""
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    if find_own_error(error) is not None:
        record.hide = True  # understood by Ray Data's console handler; its log file has it all
    return True


def iterate_tables(dataset: "Dataset") -> Iterator[pa.Table]:
    """Run a dataset's tasks; what they return, as they finish, whole and in no certain order."""
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        assert isinstance(table, pa.Table)
        yield table


@contextmanager
def original_errors() -> Iterator[None]:
    """Raise our own errors as a worker raised them, without Ray's wrapping and remote traceback."""
    try:
        yield
    except Exception as error:
        own = find_own_error(error)
        if own is None or own is error:
            raise
        raise own from None


def find_own_error(error: BaseException | None) -> LightSANsError | None:
    """The `LightSANsError` inside an exception of Ray, if there is one."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        current = pending.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        if isinstance(current, LightSANsError):
            # Ray makes a class that is both RayTaskError and ours: give back ours alone.
            if isinstance(current, RayTaskError):
                pending.append(current.cause)
                continue
            return _without_advice(current)
        seen.add(id(current))
        pending += [current.__cause__, current.__context__, getattr(current, "cause", None)]
        failures = getattr(current, "worker_failures", None)
        pending += list(failures.values()) if isinstance(failures, dict) else []
    return None


def _without_advice(error: LightSANsError) -> LightSANsError:
    """Take off the lines about its retry settings that Ray Data appends to a worker's message."""
    message = re.split(r"\nFailed to .* after \d+/\d+ attempts", str(error), maxsplit=1)[0]
    error.args = (message, *error.args[1:])
    return error
