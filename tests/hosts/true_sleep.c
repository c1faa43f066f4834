/* Sleeps as the kernel counts time, for hosts whose clock faketime moves: told to leave the
 * monotonic clock alone, faketime still moves the moment until which a process sleeps by that
 * clock, so that every time.sleep of Python's fails with EINVAL. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) == 0 ? 0 : errno;
}
