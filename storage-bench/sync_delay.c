/*
 * Loaded into a PostgreSQL server by LD_PRELOAD: every sync of a file takes at least as long as
 * STORAGE_BENCH_SYNC_DELAY_NS says, so that figures do not depend on the disk of the machine.
 *
 * It really syncs. Other programs that the variable reaches on its way to the server are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int (*sync_call)(int);

static long long delay_ns;
static sync_call real_fsync, real_fdatasync;

__attribute__((constructor)) static void prepare(void)
{
    const char *told = getenv("STORAGE_BENCH_SYNC_DELAY_NS");
    real_fsync = (sync_call)dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
    if (told != NULL && strcmp(program_invocation_short_name, "postgres") == 0)
        delay_ns = strtoll(told, NULL, 10);
}

static int slowly(sync_call call, int file)
{
    struct timespec until;
    int result, error;

    if (delay_ns <= 0)
        return call(file);
    clock_gettime(CLOCK_MONOTONIC, &until);
    result = call(file);
    error = errno;
    until.tv_sec += (until.tv_nsec + delay_ns) / 1000000000;
    until.tv_nsec = (until.tv_nsec + delay_ns) % 1000000000;
    /* Signals are how the server's processes wake each other. */
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
    errno = error;
    return result;
}

int fsync(int file)
{
    return slowly(real_fsync, file);
}

int fdatasync(int file)
{
    return slowly(real_fdatasync, file);
}
