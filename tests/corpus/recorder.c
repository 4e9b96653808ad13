/* Records what a process does to the files below a folder, in the order in which it happens.

   Built by recorder.py and loaded with LD_PRELOAD; Linux with glibc only. Nothing is recorded
   until record_begin is called. A record is a header, two paths and the data written. Each call is
   made and recorded under one lock, so that the records have the true order. Only the process that
   called record_begin is recorded, not its children. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct {
    char kind[8];
    uint64_t inode;
    int64_t at;
    uint32_t path, to;
    uint64_t data;
} header;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int journal = -1;
static pid_t owner;

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define ACTIVE (journal >= 0 && getpid() == owner)

static void put(const void *data, size_t size) {
    while (size > 0) {
        ssize_t done = syscall(SYS_write, journal, data, size);
        if (done < 0) _exit(98);
        data = (const char *)data + done;
        size -= done;
    }
}

static void record(const char *kind, uint64_t inode, int64_t at, const char *path, const char *to,
                   const void *data, size_t size) {
    header head = {.inode = inode, .at = at, .data = size};
    strncpy(head.kind, kind, sizeof head.kind);
    head.path = strlen(path);
    head.to = strlen(to);
    put(&head, sizeof head);
    put(path, head.path);
    put(to, head.to);
    if (size) put(data, size);
}

static int inside(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int place_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0) return 0;
    out[length] = 0;
    return inside(out);
}

/* An absolute path; ".." and links in it are left to the reader. */
static int whole(int folder, const char *path, char *out) {
    out[0] = 0;
    if (path[0] != '/') {
        char start[PATH_MAX] = "";
        if (folder == AT_FDCWD) {
            if (!getcwd(start, sizeof start)) return 0;
        } else {
            place_of(folder, start);
        }
        if (snprintf(out, PATH_MAX, "%s/%s", start, path) >= PATH_MAX) return 0;
    } else {
        snprintf(out, PATH_MAX, "%s", path);
    }
    return inside(out);
}

static uint64_t inode_of(int fd) {
    struct stat about;
    return fstat(fd, &about) ? 0 : about.st_ino;
}

void record_mark(const char *text) {
    pthread_mutex_lock(&lock);
    if (ACTIVE) record("mark", 0, 0, text, "", NULL, 0);
    pthread_mutex_unlock(&lock);
}

void record_begin(const char *folder, int to) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    owner = getpid();
    journal = to;
}

void record_end(void) { journal = -1; }

/* --- opening ------------------------------------------------------------------------------- */

static int opened(int (*call)(int, const char *, int, ...), int folder, const char *path, int flags,
                  mode_t mode) {
    char place[PATH_MAX];
    if (!ACTIVE || !whole(folder, path, place)) return call(folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int was = !fstatat(folder, path, &before, 0);
    int fd = call(folder, path, flags, mode), error = errno;
    if (fd >= 0 && (flags & O_CREAT) && !was) {
        record("create", inode_of(fd), 0, place, "", NULL, 0);
    } else if (fd >= 0 && (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) {
        record("cut", inode_of(fd), 0, place, "", NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static int open_now(int folder, const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, int);
    va_end(more);
    return syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags)                                        \
    mode_t mode = 0;                                       \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {               \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode = va_arg(more, int);                          \
        va_end(more);                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags);
    return opened(open_now, AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags);
    return opened(open_now, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return opened(open_now, folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return opened(open_now, folder, path, flags | O_LARGEFILE, mode);
}
int creat(const char *path, mode_t mode) {
    return opened(open_now, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    REAL(close);
    char place[PATH_MAX];
    if (!ACTIVE || fd == journal || !place_of(fd, place)) return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_of(fd);
    int writes = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
    int code = real(fd);
    if (writes) record("close", inode, 0, place, "", NULL, 0);
    pthread_mutex_unlock(&lock);
    return code;
}

/* stdio writes past these functions: whoever uses it here is told by the reader */
static FILE *stream(FILE *(*real)(const char *, const char *), const char *path, const char *mode) {
    char place[PATH_MAX];
    if (ACTIVE && strpbrk(mode, "wa+") && whole(AT_FDCWD, path, place)) {
        pthread_mutex_lock(&lock);
        record("stdio", 0, 0, place, "", NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return real(path, mode);
}
FILE *fopen(const char *path, const char *mode) {
    REAL(fopen);
    return stream(real, path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    REAL(fopen64);
    return stream(real, path, mode);
}

void *mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    char place[PATH_MAX];
    if (ACTIVE && fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) &&
        place_of(fd, place)) {
        pthread_mutex_lock(&lock);
        record("mmap", inode_of(fd), 0, place, "", NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return (void *)syscall(SYS_mmap, start, length, protection, flags, fd, offset);
}
void *mmap64(void *start, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mmap(start, length, protection, flags, fd, offset);
}

/* --- data ---------------------------------------------------------------------------------- */

/* Make a call that moves data to fd and record it. The data are in `parts`, or without any in the
   file `from` at *read_at, by default before its position. at: NULL for fd's own position. */
static ssize_t moved(int fd, const struct iovec *parts, int count, const off64_t *at,
                     ssize_t (*call)(void *), void *words, int from, const off64_t *read_at) {
    char place[PATH_MAX];
    if (!ACTIVE || fd == journal || !place_of(fd, place)) return call(words);
    pthread_mutex_lock(&lock);
    int64_t start = at ? *at : -1, read_start = read_at ? *read_at : -1;
    ssize_t done = call(words);
    int error = errno;
    if (done > 0) {
        char *data = malloc(done), *end = data;
        if (start < 0) start = lseek64(fd, 0, SEEK_CUR) - done;
        for (int part = 0; part < count && end < data + done; part++) {
            size_t left = data + done - end;
            size_t size = parts[part].iov_len < left ? parts[part].iov_len : left;
            memcpy(end, parts[part].iov_base, size);
            end += size;
        }
        if (from >= 0) {
            if (read_start < 0) read_start = lseek64(from, 0, SEEK_CUR) - done;
            if (pread64(from, data, done, read_start) != done) _exit(97);
        }
        record("write", inode_of(fd), start, place, "", data, done);
        free(data);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

typedef struct {
    int fd, from, count;
    unsigned flags;
    const void *data;
    size_t size;
    off64_t offset, *at, *read_at;
} words;

static ssize_t do_write(void *w) { words *x = w; return syscall(SYS_write, x->fd, x->data, x->size); }
static ssize_t do_pwrite(void *w) {
    words *x = w;
    return syscall(SYS_pwrite64, x->fd, x->data, x->size, x->offset);
}
static ssize_t do_writev(void *w) { words *x = w; return syscall(SYS_writev, x->fd, x->data, x->count); }
static ssize_t do_sendfile(void *w) {
    words *x = w;
    return syscall(SYS_sendfile, x->fd, x->from, x->read_at, x->size);
}
static ssize_t do_copy(void *w) {
    words *x = w;
    return syscall(SYS_copy_file_range, x->from, x->read_at, x->fd, x->at, x->size, x->flags);
}

ssize_t write(int fd, const void *data, size_t size) {
    struct iovec part = {(void *)data, size};
    words w = {.fd = fd, .data = data, .size = size};
    return moved(fd, &part, 1, NULL, do_write, &w, -1, NULL);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    struct iovec part = {(void *)data, size};
    words w = {.fd = fd, .data = data, .size = size, .offset = offset};
    return moved(fd, &part, 1, &w.offset, do_pwrite, &w, -1, NULL);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return pwrite64(fd, data, size, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    words w = {.fd = fd, .data = parts, .count = count};
    return moved(fd, parts, count, NULL, do_writev, &w, -1, NULL);
}
ssize_t sendfile64(int fd, int from, off64_t *at, size_t size) {
    words w = {.fd = fd, .from = from, .read_at = at, .size = size};
    return moved(fd, NULL, 0, NULL, do_sendfile, &w, from, at);
}
ssize_t sendfile(int fd, int from, off_t *at, size_t size) {
    return sendfile64(fd, from, (off64_t *)at, size);
}
ssize_t copy_file_range(int from, off64_t *read_at, int fd, off64_t *at, size_t size,
                        unsigned flags) {
    words w = {.fd = fd, .from = from, .read_at = read_at, .at = at, .size = size, .flags = flags};
    return moved(fd, NULL, 0, at, do_copy, &w, from, read_at);
}

/* Make a call without data on a descriptor and record it, if it works. */
#define ON_FILE(kind, at, call)                                            \
    char place[PATH_MAX];                                                  \
    if (!ACTIVE || !place_of(fd, place)) return call;                      \
    pthread_mutex_lock(&lock);                                             \
    int code = call, error = errno;                                        \
    if (!code) record(kind, inode_of(fd), at, place, "", NULL, 0);         \
    pthread_mutex_unlock(&lock);                                           \
    errno = error;                                                         \
    return code

int ftruncate64(int fd, off64_t size) { ON_FILE("cut", size, syscall(SYS_ftruncate, fd, size)); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) { ON_FILE("fsync", 0, syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { ON_FILE("fsync", 0, syscall(SYS_fdatasync, fd)); }
int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    ON_FILE("grow", offset + size, syscall(SYS_fallocate, fd, mode, offset, size));
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
    return fallocate64(fd, mode, offset, size);
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    return fallocate64(fd, 0, offset, size) ? errno : 0;
}
int posix_fallocate(int fd, off_t offset, off_t size) { return posix_fallocate64(fd, offset, size); }

/* --- names --------------------------------------------------------------------------------- */

#define ON_NAME(kind, folder, path, call)                                  \
    char place[PATH_MAX];                                                  \
    if (!ACTIVE || !whole(folder, path, place)) return call;               \
    pthread_mutex_lock(&lock);                                             \
    int code = call, error = errno;                                        \
    if (!code) record(kind, 0, 0, place, "", NULL, 0);                     \
    pthread_mutex_unlock(&lock);                                           \
    errno = error;                                                         \
    return code

#define ON_NAMES(kind, folder, path, new_folder, new_path, call)           \
    char place[PATH_MAX], to[PATH_MAX];                                    \
    if (!ACTIVE) return call;                                              \
    int is = whole(folder, path, place), will = whole(new_folder, new_path, to); \
    if (!is && !will) return call;                                         \
    pthread_mutex_lock(&lock);                                             \
    int code = call, error = errno;                                        \
    if (!code) record(kind, 0, 0, place, to, NULL, 0);                     \
    pthread_mutex_unlock(&lock);                                           \
    errno = error;                                                         \
    return code

int mkdirat(int folder, const char *path, mode_t mode) {
    ON_NAME("mkdir", folder, path, syscall(SYS_mkdirat, folder, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int unlinkat(int folder, const char *path, int flags) {
    ON_NAME("unlink", folder, path, syscall(SYS_unlinkat, folder, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int renameat2(int folder, const char *path, int new_folder, const char *new_path, unsigned flags) {
    ON_NAMES("rename", folder, path, new_folder, new_path,
             syscall(SYS_renameat2, folder, path, new_folder, new_path, flags));
}
int renameat(int folder, const char *path, int new_folder, const char *new_path) {
    return renameat2(folder, path, new_folder, new_path, 0);
}
int rename(const char *path, const char *new_path) {
    return renameat2(AT_FDCWD, path, AT_FDCWD, new_path, 0);
}
int linkat(int folder, const char *path, int new_folder, const char *new_path, int flags) {
    ON_NAMES("link", folder, path, new_folder, new_path,
             syscall(SYS_linkat, folder, path, new_folder, new_path, flags));
}
int link(const char *path, const char *new_path) {
    return linkat(AT_FDCWD, path, AT_FDCWD, new_path, 0);
}
int symlinkat(const char *target, int folder, const char *path) {
    ON_NAME("symlink", folder, path, syscall(SYS_symlinkat, target, folder, path));
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }
