// SPDX-License-Identifier: Apache-2.0
/// LD_PRELOAD library that counts what a process does to the files below a directory, logs it, and
/// at a chosen operation kills the process or lets the operation fail. Linux, glibc.
///
///   FAULT_BELOW    the directory, absolute; without it the library does nothing
///   FAULT_LOG      a file elsewhere; one line per operation that was done:
///                    NUMBER OPERATION RESULT OFFSET LENGTH PATH [-> PATH]
///   FAULT_DATA     a file elsewhere that takes the written bytes, one write after the other
///   FAULT_AT       number of the operation at which FAULT_KIND happens, from 1; 0: never
///   FAULT_TIMES    how many operations fail from there on (1); 0: all
///   FAULT_KIND     kill        before the operation
///                  after       when it is done
///                  tear:N      a write's first N bytes are written (-N: all but N), then kill
///                  short:N     only so many bytes are written, and no error is reported
///                  flip:N      a bit of byte N is another one on the disk, and nobody is told
///                  ENOSPC, EDQUOT, EIO, EINTR, ESTALE, EXDEV, EROFS: the operation fails
///   FAULT_OPS      names of operations that may fail, joined by commas; not stated: all
///   FAULT_FLOCK    an error that every flock gives
///   FAULT_CLOCK    seconds that the wall clock goes back with each time it is asked
///
/// Operations: open (for writing), write, fdatasync, fsync, ftruncate, rename, mkdir, remove,
/// close.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { max_fds = 4096 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char* path_of_fd[max_fds];  // of files below the directory only
static char below[PATH_MAX];
static size_t below_length;
static int log_fd = -1;
static int data_fd = -1;
static long done;   // operations counted so far
static long at;     // FAULT_AT
static long times;  // FAULT_TIMES
static const char* kind = "";
static const char* ops;
static int clock_step;

static long number_from(const char* name, long absent) {
  const char* text = getenv(name);
  return text != NULL ? atol(text) : absent;
}

static int open_outside(const char* name) {
  const char* path = getenv(name);
  if (path == NULL) return -1;
  return (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

__attribute__((constructor)) static void set_up(void) {
  const char* directory = getenv("FAULT_BELOW");
  clock_step = (int)number_from("FAULT_CLOCK", 0);
  if (directory == NULL) return;
  snprintf(below, sizeof(below), "%s", directory);
  below_length = strlen(below);
  log_fd = open_outside("FAULT_LOG");
  data_fd = open_outside("FAULT_DATA");
  at = number_from("FAULT_AT", 0);
  times = number_from("FAULT_TIMES", 1);
  ops = getenv("FAULT_OPS");
  if (getenv("FAULT_KIND") != NULL) kind = getenv("FAULT_KIND");
}

static int error_named(const char* name) {
  static const struct {
    const char* name;
    int number;
  } errors[] = {{"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EIO", EIO},     {"EINTR", EINTR},
                {"ESTALE", ESTALE}, {"EXDEV", EXDEV},   {"EROFS", EROFS}, {"ENOLCK", ENOLCK}};
  for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); ++i) {
    if (strcmp(name, errors[i].name) == 0) return errors[i].number;
  }
  return 0;
}

/// `path` made absolute, if it is below the directory.
static int is_below(const char* path, char* absolute) {
  if (below_length == 0 || path == NULL) return 0;
  if (path[0] == '/') {
    snprintf(absolute, PATH_MAX, "%s", path);
  } else {
    char here[PATH_MAX / 2];
    if (getcwd(here, sizeof(here)) == NULL) return 0;
    snprintf(absolute, PATH_MAX, "%s/%s", here, path);
  }
  return strncmp(absolute, below, below_length) == 0 &&
         (absolute[below_length] == '/' || absolute[below_length] == '\0');
}

static const char* tracked(int fd) { return fd >= 0 && fd < max_fds ? path_of_fd[fd] : NULL; }

static int writable(int fd) {
  const int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

static void note(long number, const char* op, long result, long offset, long length,
                 const char* path, const char* to) {
  char line[2 * PATH_MAX + 128];
  const int size = snprintf(line, sizeof(line), "%ld %s %ld %ld %ld %s%s%s\n", number, op, result,
                            offset, length, path, to != NULL ? " -> " : "", to != NULL ? to : "");
  if (log_fd >= 0) syscall(SYS_write, log_fd, line, size);
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

/// Whether `op` is one of the names in FAULT_OPS.
static int chosen(const char* op) {
  if (ops == NULL) return 1;
  const size_t length = strlen(op);
  for (const char* p = strstr(ops, op); p != NULL; p = strstr(p + 1, op)) {
    if ((p == ops || p[-1] == ',') && (p[length] == ',' || p[length] == '\0')) return 1;
  }
  return 0;
}

/// Counts the operation. With its number it returns the error to fail with, 0 to go on.
static int begin(const char* op, const char* path, long* number) {
  if (!chosen(op)) {
    *number = 0;
    return 0;
  }
  *number = ++done;
  if (at == 0 || *number < at || (times > 0 && *number >= at + times)) return 0;
  if (strcmp(kind, "kill") == 0) {
    note(*number, "kill", 0, 0, 0, path, NULL);
    die();
  }
  const int error = error_named(kind);
  if (error != 0) note(*number, op, -error, 0, 0, path, NULL);
  return error;
}

static void end(long number) {
  if (at > 0 && number == at && strcmp(kind, "after") == 0) die();
}

/// For the kinds that cut writes: how many bytes are to be written, `size` if all.
static size_t cut(long number, const char* prefix, size_t size) {
  const size_t length = strlen(prefix);
  if (at == 0 || number != at || strncmp(kind, prefix, length) != 0) return size;
  const long bytes = atol(kind + length);
  if (bytes < 0) return size > (size_t)-bytes ? size - (size_t)-bytes : 0;
  return (size_t)bytes < size ? (size_t)bytes : size;
}

static ssize_t write_bytes(int fd, const void* bytes, size_t size, off_t position) {
  const char* path = tracked(fd);
  if (path == NULL || !writable(fd)) {
    return position < 0 ? syscall(SYS_write, fd, bytes, size)
                        : syscall(SYS_pwrite64, fd, bytes, size, position);
  }
  pthread_mutex_lock(&mutex);
  long number = 0;
  const int error = begin("write", path, &number);
  ssize_t result = -1;
  if (error == 0) {
    const size_t torn = cut(number, "tear:", size);
    const size_t some = cut(number, "short:", torn);
    struct stat status;
    const int appends = ((int)syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) != 0;
    const long offset = position >= 0                        ? position
                        : appends && fstat(fd, &status) == 0 ? status.st_size
                                                             : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    char* flipped = NULL;
    const size_t place = cut(number, "flip:", size);
    if (place < size && (flipped = malloc(size)) != NULL) {
      memcpy(flipped, bytes, size);
      flipped[place] ^= 4;
      bytes = flipped;
    }
    result = position < 0 ? syscall(SYS_write, fd, bytes, some)
                          : syscall(SYS_pwrite64, fd, bytes, some, position);
    const int saved = errno;
    free(flipped);
    if (result > 0 && data_fd >= 0) syscall(SYS_write, data_fd, bytes, result);
    note(number, "write", result < 0 ? -saved : 0, offset, result, path, NULL);
    if (torn < size) die();
    end(number);
    errno = saved;
  }
  pthread_mutex_unlock(&mutex);
  if (error != 0) errno = error;
  return result;
}

ssize_t write(int fd, const void* bytes, size_t size) { return write_bytes(fd, bytes, size, -1); }
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t position) {
  return write_bytes(fd, bytes, size, position);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t position) {
  return write_bytes(fd, bytes, size, position);
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  if (tracked(fd) == NULL) return syscall(SYS_writev, fd, parts, count);
  return count > 0 ? write_bytes(fd, parts[0].iov_base, parts[0].iov_len, -1) : 0;
}

/// What takes a descriptor and changes its file.
static int on_descriptor(const char* op, long call, int fd, long argument) {
  const char* path = tracked(fd);
  if (path == NULL) return (int)syscall(call, fd, argument);
  pthread_mutex_lock(&mutex);
  long number = 0;
  const int error = begin(op, path, &number);
  int result = -1;
  if (error == 0) {
    result = (int)syscall(call, fd, argument);
    const int saved = errno;
    note(number, op, result < 0 ? -saved : 0, argument, 0, path, NULL);
    end(number);
    errno = saved;
  }
  pthread_mutex_unlock(&mutex);
  if (error != 0) errno = error;
  return result;
}

int fsync(int fd) { return on_descriptor("fsync", SYS_fsync, fd, 0); }
int fdatasync(int fd) { return on_descriptor("fdatasync", SYS_fdatasync, fd, 0); }
int ftruncate(int fd, off_t length) {
  return on_descriptor("ftruncate", SYS_ftruncate, fd, length);
}
int ftruncate64(int fd, off64_t length) {
  return on_descriptor("ftruncate", SYS_ftruncate, fd, length);
}

int close(int fd) {
  char* path = fd >= 0 && fd < max_fds ? path_of_fd[fd] : NULL;
  if (path == NULL) return (int)syscall(SYS_close, fd);
  const int counted = writable(fd);
  pthread_mutex_lock(&mutex);
  path_of_fd[fd] = NULL;
  long number = 0;
  const int error = counted ? begin("close", path, &number) : 0;
  int result = (int)syscall(SYS_close, fd);  // also if it fails: Linux has released the number
  if (counted && error == 0) {
    note(number, "close", result, 0, 0, path, NULL);
    end(number);
  }
  free(path);
  pthread_mutex_unlock(&mutex);
  if (error == 0) return result;
  errno = error;
  return -1;
}

static int open_path(int directory, const char* path, int flags, mode_t mode) {
  char absolute[PATH_MAX];
  if (!is_below(path, absolute)) return (int)syscall(SYS_openat, directory, path, flags, mode);
  const int counted = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0;
  pthread_mutex_lock(&mutex);
  long number = 0;
  const int error = counted ? begin("open", absolute, &number) : 0;
  int fd = -1;
  if (error == 0) {
    struct stat status;
    const int existed = stat(absolute, &status) == 0;
    fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    const int saved = errno;
    if (fd >= 0 && fd < max_fds) path_of_fd[fd] = strdup(absolute);
    if (counted) {
      // OFFSET 1: the file is new; LENGTH 1: it was emptied
      note(number, "open", fd < 0 ? -saved : 0, !existed, (flags & O_TRUNC) != 0, absolute, NULL);
      end(number);
    }
    errno = saved;
  }
  pthread_mutex_unlock(&mutex);
  if (error != 0) errno = error;
  return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}
#define OPEN_WITH_MODE(flags, directory, path)   \
  va_list arguments;                             \
  va_start(arguments, flags);                    \
  const mode_t mode = mode_of(flags, arguments); \
  va_end(arguments);                             \
  return open_path(directory, path, flags, mode)

int open(const char* path, int flags, ...) { OPEN_WITH_MODE(flags, AT_FDCWD, path); }
int open64(const char* path, int flags, ...) { OPEN_WITH_MODE(flags, AT_FDCWD, path); }
int openat(int directory, const char* path, int flags, ...) {
  OPEN_WITH_MODE(flags, directory, path);
}

/// What takes one name or two.
static int on_path(const char* op, const char* path, const char* to, mode_t mode) {
  char absolute[PATH_MAX];
  char other[PATH_MAX];
  const int counted = is_below(path, absolute) && (to == NULL || is_below(to, other));
  pthread_mutex_lock(&mutex);
  long number = 0;
  const int error = counted ? begin(op, absolute, &number) : 0;
  int result = -1;
  if (error == 0) {
    result = strcmp(op, "mkdir") == 0 ? (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode)
             : strcmp(op, "rename") == 0
                 ? (int)syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, to, 0)
                 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    const int saved = errno;
    if (counted) {
      note(number, op, result < 0 ? -saved : 0, 0, 0, absolute, to != NULL ? other : NULL);
      end(number);
    }
    errno = saved;
  }
  pthread_mutex_unlock(&mutex);
  if (error != 0) errno = error;
  return result;
}

int mkdir(const char* path, mode_t mode) { return on_path("mkdir", path, NULL, mode); }
int rename(const char* from, const char* to) { return on_path("rename", from, to, 0); }
int unlink(const char* path) { return on_path("remove", path, NULL, 0); }
int remove(const char* path) {
  const int result = on_path("remove", path, NULL, 0);
  return result != 0 && errno == EISDIR ? (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
                                        : result;
}

int flock(int fd, int operation) {
  const char* error = getenv("FAULT_FLOCK");
  if (error == NULL || tracked(fd) == NULL) return (int)syscall(SYS_flock, fd, operation);
  errno = error_named(error);
  return -1;
}

int clock_gettime(clockid_t clock, struct timespec* time) {
  static long asked;
  const int result = (int)syscall(SYS_clock_gettime, clock, time);
  if (clock == CLOCK_REALTIME && clock_step != 0) time->tv_sec -= ++asked * clock_step;
  return result;
}
