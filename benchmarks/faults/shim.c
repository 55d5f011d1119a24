/* Faults in what a process writes, for tests: loaded with LD_PRELOAD, armed by fault_arm, it counts every operation that
 * changes a file below one directory, and at the n-th of them kills the process, kills it in the middle of a write, or
 * says from then on that the disk is full, as the operating system would. SQLite, safetensors and torch all pass here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OFF, COUNT, KILL, HALF, FULL };
enum change { WRITES, NEEDS_ROOM, FREES };

static char below[4096];
static size_t below_length;
static int kind = OFF, log_descriptor = -1;
static long at;
static pid_t owner;
static atomic_long seen;

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t plain_write(int descriptor, const void *bytes, size_t length) {
    REAL(write);
    return real(descriptor, bytes, length);
}

/* Called by the process that is to be harmed; `path` must be absolute and without links, `log` may be NULL. */
void fault_arm(const char *path, int what, long n, const char *log) {
    snprintf(below, sizeof below, "%s", path);
    below_length = strlen(below);
    owner = getpid();
    at = n;
    atomic_store(&seen, 0);
    if (log) {
        REAL(open);
        log_descriptor = real(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    kind = what;
}

static int is_below(const char *path) {
    return !strncmp(path, below, below_length) && (path[below_length] == '/' || path[below_length] == 0);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts one operation. Returns 0 to let it pass, 1 to do half of it and die, -1 for a full disk. */
static int meet(const char *name, const char *path, enum change change) {
    if (kind == HALF && change != WRITES) return 0;
    if (kind == FULL && change == FREES) return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (log_descriptor >= 0) {
        char line[4500];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, name, path + below_length);
        plain_write(log_descriptor, line, length);
    }
    if (kind == KILL && number == at) die();
    if (kind == HALF && number == at) return 1;
    return kind == FULL && number >= at ? -1 : 0;
}

static int meet_path(const char *name, const char *path, enum change change) {
    if (kind == OFF || owner != getpid() || path[0] != '/' || !is_below(path)) return 0;
    return meet(name, path, change);
}

static int meet_descriptor(const char *name, int descriptor, enum change change) {
    if (kind == OFF || owner != getpid()) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    int before = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path) ? meet(name, path, change) : 0;
}

static int is_there(const char *path) {
    struct stat found;
    int before = errno, missing = stat(path, &found);
    errno = before;
    return !missing;
}

#define REFUSED do { errno = ENOSPC; return -1; } while (0)

ssize_t write(int descriptor, const void *bytes, size_t length) {
    int harm = meet_descriptor("write", descriptor, WRITES);
    if (harm < 0 && atomic_load(&seen) == at && length > 1) return plain_write(descriptor, bytes, length / 2);
    if (harm < 0) REFUSED;
    if (harm > 0) { plain_write(descriptor, bytes, length / 2); die(); }
    return plain_write(descriptor, bytes, length);
}

#define POSITIONED(name, offset_type)                                                       \
    ssize_t name(int descriptor, const void *bytes, size_t length, offset_type offset) {    \
        REAL(name);                                                                         \
        int harm = meet_descriptor(#name, descriptor, WRITES);                              \
        if (harm < 0) REFUSED;                                                              \
        if (harm > 0) { real(descriptor, bytes, length / 2, offset); die(); }               \
        return real(descriptor, bytes, length, offset);                                     \
    }
POSITIONED(pwrite, off_t)
POSITIONED(pwrite64, off64_t)

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    int harm = meet_descriptor("writev", descriptor, WRITES);
    if (harm < 0) REFUSED;
    if (harm > 0) { real(descriptor, parts, 1); die(); }
    return real(descriptor, parts, count);
}

#define SYNCING(name)                                                                       \
    int name(int descriptor) {                                                              \
        REAL(name);                                                                         \
        int harm = meet_descriptor(#name, descriptor, NEEDS_ROOM);                          \
        if (harm < 0) REFUSED;                                                              \
        return real(descriptor);                                                            \
    }
SYNCING(fsync)
SYNCING(fdatasync)

#define TRUNCATING(name, offset_type)                                                       \
    int name(int descriptor, offset_type length) {                                          \
        REAL(name);                                                                         \
        struct stat found;                                                                  \
        int is_longer = !fstat(descriptor, &found) && length > found.st_size;               \
        int harm = meet_descriptor(#name, descriptor, is_longer ? NEEDS_ROOM : FREES);      \
        if (harm < 0) REFUSED;                                                              \
        return real(descriptor, length);                                                    \
    }
TRUNCATING(ftruncate, off_t)
TRUNCATING(ftruncate64, off64_t)

#define OPENING(name)                                                                       \
    int name(const char *path, int flags, ...) {                                            \
        REAL(name);                                                                         \
        va_list rest;                                                                       \
        va_start(rest, flags);                                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;             \
        va_end(rest);                                                                       \
        if (kind != OFF && flags & O_CREAT && !is_there(path) && meet_path(#name, path, NEEDS_ROOM) < 0) REFUSED; \
        return real(path, flags, mode);                                                     \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                                                    \
    int name(int folder, const char *path, int flags, ...) {                                \
        REAL(name);                                                                         \
        va_list rest;                                                                       \
        va_start(rest, flags);                                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;             \
        va_end(rest);                                                                       \
        if (kind != OFF && flags & O_CREAT && !is_there(path) && meet_path(#name, path, NEEDS_ROOM) < 0) REFUSED; \
        return real(folder, path, flags, mode);                                             \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

int rename(const char *old, const char *new) {
    REAL(rename);
    if (meet_path("rename", new, NEEDS_ROOM) < 0) REFUSED;
    return real(old, new);
}

int renameat(int old_folder, const char *old, int new_folder, const char *new) {
    REAL(renameat);
    if (meet_path("renameat", new, NEEDS_ROOM) < 0) REFUSED;
    return real(old_folder, old, new_folder, new);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (kind != OFF && !is_there(path) && meet_path("mkdir", path, NEEDS_ROOM) < 0) REFUSED;
    return real(path, mode);
}

int unlink(const char *path) {
    REAL(unlink);
    if (kind != OFF && is_there(path)) meet_path("unlink", path, FREES);
    return real(path);
}

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    if (kind != OFF && is_there(path)) meet_path("unlinkat", path, FREES);
    return real(folder, path, flags);
}
