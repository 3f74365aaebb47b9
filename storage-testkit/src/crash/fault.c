/* Loaded with LD_PRELOAD: after FAULT_AFTER calls of one sort on regular files, the next FAULT_TIMES of them fail
 * with the error number FAULT_ERROR. FAULT_CALL is "sync" (fsync, fdatasync) or "write" (write, pwrite). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int fails(int fd, const char *sort)
{
    struct stat file;
    const char *chosen = getenv("FAULT_CALL");

    if (!chosen || strcmp(chosen, sort) != 0 || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))
        return 0;
    long past = atomic_fetch_add(&calls, 1) - number("FAULT_AFTER");
    if (past < 0 || past >= number("FAULT_TIMES"))
        return 0;
    errno = (int)number("FAULT_ERROR");
    return 1;
}

#define NEXT(result, name, ...) ((result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

int fsync(int fd)
{
    return fails(fd, "sync") ? -1 : NEXT(int, "fsync", int)(fd);
}

int fdatasync(int fd)
{
    return fails(fd, "sync") ? -1 : NEXT(int, "fdatasync", int)(fd);
}

ssize_t write(int fd, const void *data, size_t length)
{
    return fails(fd, "write") ? -1 : NEXT(ssize_t, "write", int, const void *, size_t)(fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    return fails(fd, "write") ? -1 : NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    return fails(fd, "write") ? -1 : NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, data, length, at);
}
