/* Preloaded into a daemon under test: lets calls that write fail.
 *
 * Counted are write, pwrite, fsync, fdatasync, ftruncate and rename on files below
 * FAULTS_DIR. FAULTS_MODE is
 *   eio    the call number FAULTS_AT fails with EIO, and tells FAULTS_HIT
 *   kill   the process is killed before the call number FAULTS_AT, and tells FAULTS_HIT
 *   short  every write takes half of what it is given
 *   eintr  every other write fails with EINTR
 *   clock  the wall clock is off by the seconds that FAULTS_CLOCK holds, if it is there
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long counted;

static int is(const char *mode) {
    const char *now = getenv("FAULTS_MODE");
    return now && !strcmp(now, mode);
}

static int below(const char *path) {
    const char *dir = getenv("FAULTS_DIR");
    return dir && !strncmp(path, dir, strlen(dir));
}

static int ours(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return below(path);
}

/* Whether this call is the one to fail. */
static int fails(void) {
    if (!is("eio") && !is("kill"))
        return 0;
    const char *at = getenv("FAULTS_AT"), *hit = getenv("FAULTS_HIT");
    if (!at || __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST) != atol(at))
        return 0;
    if (hit)
        close(open(hit, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    if (is("kill"))
        kill(getpid(), SIGKILL);
    errno = EIO;
    return 1;
}

/* How much of a write is to be done; -1: none, errno is set. */
static ssize_t part(int fd, size_t n) {
    int before = errno;
    if (!ours(fd)) {
        errno = before;
        return n;
    }
    errno = before;
    if (fails())
        return -1;
    if (is("short") && n > 1)
        return (n + 1) / 2;
    if (is("eintr") && __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST) % 2) {
        errno = EINTR;
        return -1;
    }
    return n;
}

ssize_t write(int fd, const void *data, size_t n) {
    ssize_t some = part(fd, n);
    return some < 0 ? -1 : syscall(SYS_write, fd, data, some);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    ssize_t some = part(fd, n);
    return some < 0 ? -1 : syscall(SYS_pwrite64, fd, data, some, at);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    return pwrite64(fd, data, n, at);
}

int fsync(int fd) {
    return ours(fd) && fails() ? -1 : syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return ours(fd) && fails() ? -1 : syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t n) {
    return ours(fd) && fails() ? -1 : syscall(SYS_ftruncate, fd, n);
}

int ftruncate(int fd, off_t n) {
    return ftruncate64(fd, n);
}

int rename(const char *from, const char *to) {
    if (below(to) && fails())
        return -1;
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* By system calls: whatever is counted must not count this. */
static long off(void) {
    const char *path = getenv("FAULTS_CLOCK");
    char text[32] = "";
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && is("clock"))
        now->tv_sec += off();
    return failed;
}
