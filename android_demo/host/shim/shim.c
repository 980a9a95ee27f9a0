/*
 * What differs between Android's C library and glibc, for the libraries of an APK on a Linux host.
 * make/shim.py gives each function bionic_<name> here Android's name and version, and passes all
 * others on to glibc. A test double: what an engine that draws never calls aborts with its name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Threads: Android's locks are 4-aligned, so each holds a pointer to a real one in aligned bytes. */

static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static void **slot_of(void *lock) {
    return (void **)(((uintptr_t)lock + 7) & ~(uintptr_t)7);
}

static void *real(void *lock, size_t size) {
    void **slot = slot_of(lock);
    void *found = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if ((uintptr_t)found >> 16) { /* else a static initialiser, whose type is in bits 14 and 15 */
        return found;
    }
    pthread_mutex_lock(&making);
    found = *slot;
    if (!((uintptr_t)found >> 16)) {
        int type = *(int *)lock >> 14 & 3;
        found = calloc(1, size);
        if (size == sizeof(pthread_mutex_t)) {
            pthread_mutexattr_t attributes;
            pthread_mutexattr_init(&attributes);
            pthread_mutexattr_settype(&attributes, type);
            pthread_mutex_init(found, &attributes);
        }
        __atomic_store_n(slot, found, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&making);
    return found;
}

#define MUTEX(lock) real(lock, sizeof(pthread_mutex_t))
#define COND(cond) real(cond, sizeof(pthread_cond_t) + 8)
#define RWLOCK(lock) real(lock, sizeof(pthread_rwlock_t) + 16)

int bionic_pthread_mutex_init(void *lock, const pthread_mutexattr_t *attributes) {
    memset(lock, 0, 40);
    return pthread_mutex_init(MUTEX(lock), attributes);
}
int bionic_pthread_mutex_lock(void *lock) { return pthread_mutex_lock(MUTEX(lock)); }
int bionic_pthread_mutex_trylock(void *lock) { return pthread_mutex_trylock(MUTEX(lock)); }
int bionic_pthread_mutex_unlock(void *lock) { return pthread_mutex_unlock(MUTEX(lock)); }
static int destroyed(void *lock, size_t size) {
    free(real(lock, size));
    *slot_of(lock) = NULL;
    return 0;
}
int bionic_pthread_mutex_destroy(void *lock) { return destroyed(lock, sizeof(pthread_mutex_t)); }
int bionic_pthread_cond_destroy(void *cond) { return destroyed(cond, sizeof(pthread_cond_t) + 8); }
int bionic_pthread_cond_signal(void *cond) { return pthread_cond_signal(COND(cond)); }
int bionic_pthread_cond_broadcast(void *cond) { return pthread_cond_broadcast(COND(cond)); }
int bionic_pthread_cond_wait(void *cond, void *lock) {
    return pthread_cond_wait(COND(cond), MUTEX(lock));
}
int bionic_pthread_cond_timedwait(void *cond, void *lock, const struct timespec *until) {
    return pthread_cond_timedwait(COND(cond), MUTEX(lock), until);
}
int bionic_pthread_rwlock_rdlock(void *lock) { return pthread_rwlock_rdlock(RWLOCK(lock)); }
int bionic_pthread_rwlock_wrlock(void *lock) { return pthread_rwlock_wrlock(RWLOCK(lock)); }
int bionic_pthread_rwlock_unlock(void *lock) { return pthread_rwlock_unlock(RWLOCK(lock)); }

/* Signals: a set has 8 bytes there, 128 here. */

int bionic_sigfillset(uint64_t *set) {
    *set = ~(uint64_t)0;
    return 0;
}

int bionic_pthread_sigmask(int how, const uint64_t *set, uint64_t *old) {
    sigset_t given, before;
    memset(&given, 0, sizeof given);
    if (set) {
        memcpy(&given, set, sizeof *set);
    }
    int failed = pthread_sigmask(how, set ? &given : NULL, &before);
    if (old) {
        memcpy(old, &before, sizeof *old);
    }
    return failed;
}

/* Streams: older libraries take them out of the array __sF, whose elements have 152 bytes. */

FILE *bionic_stdout, *bionic_stderr;
char bionic___sF[3][152];

__attribute__((constructor)) static void open_streams(void) {
    bionic_stdout = stdout;
    bionic_stderr = stderr;
}

static FILE *glibc(void *file) {
    FILE *streams[] = {stdin, stdout, stderr};
    for (int i = 0; i < 3; i++) {
        if (file == bionic___sF[i]) {
            return streams[i];
        }
    }
    return file;
}

int bionic_fflush(void *file) { return fflush(glibc(file)); }
int bionic_fputc(int c, void *file) { return fputc(c, glibc(file)); }
int bionic_fputs(const char *text, void *file) { return fputs(text, glibc(file)); }
int bionic_getc(void *file) { return getc(glibc(file)); }
int bionic_ungetc(int c, void *file) { return ungetc(c, glibc(file)); }
size_t bionic_fwrite(const void *data, size_t size, size_t count, void *file) {
    return fwrite(data, size, count, glibc(file));
}
int bionic_vfprintf(void *file, const char *format, va_list values) {
    return vfprintf(glibc(file), format, values);
}
int bionic_fprintf(void *file, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = vfprintf(glibc(file), format, values);
    va_end(values);
    return written;
}

/* Numbers and names that differ. */

long bionic_sysconf(int name) {
    switch (name) {
        case 0x27: case 0x28: return sysconf(_SC_PAGESIZE);
        case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
        case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
        case 0x62: return sysconf(_SC_PHYS_PAGES);
        case 0x63: return sysconf(_SC_AVPHYS_PAGES);
    }
    fprintf(stderr, "shim: sysconf(%#x) is unknown\n", name);
    errno = EINVAL;
    return -1;
}

int *bionic___errno(void) { return &errno; }
extern int __xpg_strerror_r(int, char *, size_t);
int bionic_strerror_r(int error, char *text, size_t size) {
    return __xpg_strerror_r(error, text, size);
}
char *bionic___gnu_strerror_r(int error, char *text, size_t size) {
    return strerror_r(error, text, size);
}
size_t bionic___strlen_chk(const char *text, size_t size) { return strlen(text); }
char *bionic___strchr_chk(const char *text, int c, size_t size) { return strchr(text, c); }
char *bionic___strrchr_chk(const char *text, int c, size_t size) { return strrchr(text, c); }
ssize_t bionic___write_chk(int file, const void *data, size_t count, size_t size) {
    return write(file, data, count);
}
int bionic___system_property_get(const char *name, char *value) {
    *value = 0;
    return 0;
}
void bionic_android_set_abort_message(const char *text) { fprintf(stderr, "abort: %s\n", text); }

/* long double has 128 bits there, 80 here on x86-64. */

#define REFUSED(name) \
    void bionic_##name(void) { fputs("shim: " #name " is not passed on\n", stderr); abort(); }
REFUSED(frexpl)
REFUSED(ldexpl)
REFUSED(strtold)
REFUSED(strtold_l)
REFUSED(wcstold)

/* liblog: warnings and errors (priority 5 and more) go to stderr. */

int __android_log_vprint(int priority, const char *tag, const char *format, va_list values) {
    if (priority < 5) {
        return 0;
    }
    fprintf(stderr, "%s: ", tag ? tag : "");
    vfprintf(stderr, format, values);
    return fputc('\n', stderr);
}
int __android_log_print(int priority, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = __android_log_vprint(priority, tag, format, values);
    va_end(values);
    return written;
}
int __android_log_write(int priority, const char *tag, const char *text) {
    return __android_log_print(priority, tag, "%s", text);
}
void __android_log_assert(const char *condition, const char *tag, const char *format, ...) {
    fprintf(stderr, "%s: %s: %s\n", tag ? tag : "", condition ? condition : "", format);
    abort();
}
