/* build: -pthread */
/* Each allocation that the kernel needs for a system call fails in turn, alone, and then with all behind it: the call reports that, or does
   without, and everything goes on. For kernels with `fail-allocations` on their command line. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static long failing, all;
/* Whether the allocation that was to fail has been reached, and what the call said. */
static int reached;
static int error;

static long fail(long n, long all)
{
    return syscall(0x4d05, n, all);
}

/* A call, of which an allocation fails. */
#define DO(call)                                                                                                                             \
    ({                                                                                                                                       \
        if (failing)                                                                                                                         \
            fail(failing, all);                                                                                                              \
        errno = 0;                                                                                                                           \
        long result_ = (long)(call);                                                                                                         \
        int errno_ = errno;                                                                                                                  \
        long left_ = failing ? fail(0, 0) : 1;                                                                                               \
        reached |= !left_;                                                                                                                   \
        if (result_ < 0)                                                                                                                     \
            error = errno_;                                                                                                                  \
        result_;                                                                                                                             \
    })

static char path[4200], buffer[1 << 18];

static void create(void)
{
    int file = DO(open("/tmp/created", O_CREAT | O_RDWR, 0600));
    if (file >= 0) {
        DO(write(file, buffer, sizeof buffer));
        DO(pwrite(file, "x", 1, 1 << 20));
        DO(ftruncate(file, 2 << 20));
        struct iovec pieces[2] = {{buffer, 70000}, {buffer, 10}};
        DO(writev(file, pieces, 2));
        DO(pread(file, buffer, sizeof buffer, 0));
        close(file);
    }
    unlink("/tmp/created");
}

static void names(void)
{
    struct stat stat_;
    DO(mkdir("/tmp/directory", 0700));
    DO(symlink("/tmp/directory", "/tmp/directory/link"));
    DO(stat("/tmp/directory/link", &stat_));
    DO(readlink("/tmp/directory/link", path, sizeof path));
    DO(rename("/tmp/directory/link", "/tmp/directory/a-longer-name-than-before"));
    DO(access("/proc/self/exe", X_OK));
    DO(readlink("/proc/self/exe", path, sizeof path));
    DO(chdir("/tmp/directory"));
    DO((long)(getcwd(path, sizeof path) ? 0 : -1));
    chdir("/");
    int directory = DO(open("/tmp", O_RDONLY | O_DIRECTORY));
    if (directory >= 0) {
        DO(syscall(SYS_getdents64, directory, path, sizeof path));
        close(directory);
    }
    unlink("/tmp/directory/link");
    unlink("/tmp/directory/a-longer-name-than-before");
    rmdir("/tmp/directory");
}

static void texts(void)
{
    static const char *const files[] = {
        "/proc/self/maps", "/proc/self/status", "/proc/self/comm", "/proc/thread-self/comm", "/proc/cpuinfo", "/proc/meminfo", "/proc/interrupts",
        "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/cpu0/topology/core_siblings", "/sys/devices/system/node/node0/cpulist",
        "/proc/self/exe", "/dev/null", "/dev/zero", "/dev/kmsg", "/dev/urandom", "/dev/margay",
    };
    struct stat stat_;
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        DO(stat(files[i], &stat_));
        int file = DO(open(files[i], O_RDONLY | O_NONBLOCK));
        if (file < 0)
            continue;
        DO(read(file, path, sizeof path));
        if (i == 15) {
            uint32_t version;
            DO(ioctl(file, 2u << 30 | 4 << 16 | 'M' << 8, &version));
            struct pollfd wait = {file, POLLIN, 0};
            DO(poll(&wait, 1, 1));
        }
        close(file);
    }
    int comm = DO(open("/proc/self/comm", O_WRONLY));
    if (comm >= 0) {
        DO(write(comm, "no-memory", 9));
        close(comm);
    }
    int log = DO(open("/dev/kmsg", O_WRONLY));
    if (log >= 0) {
        DO(write(log, "<7>no memory", 12));
        close(log);
    }
    DO(klogctl(3, path, sizeof path));
}

static void descriptors(void)
{
    int ends[2] = {-1, -1};
    if (DO(pipe2(ends, O_NONBLOCK)) < 0)
        return;
    DO(write(ends[1], buffer, 100));
    DO(write(ends[1], buffer, 60000));
    DO(read(ends[0], buffer, 1000));
    int more = DO(dup(ends[0]));
    int far = DO(dup3(ends[1], 900, 0));
    int other = DO(fcntl(ends[0], F_DUPFD, 950));
    struct pollfd polled[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLPRI, 0}};
    DO(poll(polled, 2, 1));
    DO(poll(polled + 1, 1, 1));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval soon = {0, 1000};
    DO(select(ends[0] + 1, NULL, NULL, &set, &soon));
    if (more >= 0)
        close(more);
    if (far >= 0)
        close(far);
    if (other >= 0)
        close(other);
    close(ends[0]);
    close(ends[1]);
}

static sigjmp_buf jump;

static volatile int jumps;

static void bus(int signal, siginfo_t *info, void *context)
{
    fail(0, 0);
    if (jumps)
        siglongjmp(jump, 1);
    printf("no memory at %p, pc %lx\n", info->si_addr, ((ucontext_t *)context)->uc_mcontext.pc);
    _exit(1);
}

/* Writes to lazy memory; -1 if there is none. */
static __attribute__((noinline)) int touch(volatile char *lazy)
{
    jumps = 1;
    int result = sigsetjmp(jump, 1);
    if (!result)
        *lazy = 1;
    jumps = 0;
    return -result;
}

static void mappings(void)
{
    enum { MIB = 1 << 20 };
    char *a = (char *)DO(mmap(NULL, 7 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (a != MAP_FAILED) {
        DO(mprotect(a + 3 * MIB + 4096, 8192, PROT_READ));
        DO(munmap(a + 5 * MIB + 4096, 4096));
        DO((mmap(a + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) ? -1 : 0);
        char *moved = (char *)DO(mremap(a, 4096, 3 * MIB, MREMAP_MAYMOVE));
        if (moved != MAP_FAILED && moved != a)
            munmap(moved, 3 * MIB);
        DO(madvise(a + 2 * MIB, MIB, MADV_DONTNEED));
        munmap(a, 7 * MIB);
    }
    char *lazy = (char *)DO(mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (lazy != MAP_FAILED) {
        if (DO(touch(lazy)) < 0)
            reached |= failing != 0;
        DO(madvise(lazy + 4 * MIB, 2 * MIB, MADV_POPULATE_WRITE));
        DO(mlock(lazy + 7 * MIB, 4096));
        munmap(lazy, 8 * MIB);
    }
    char *none = (char *)DO(mmap(NULL, 4 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (none != MAP_FAILED) {
        DO(mprotect(none + 4096, 2 * MIB, PROT_READ | PROT_WRITE));
        munmap(none, 4 * MIB);
    }
    int file = open("/proc/self/exe", O_RDONLY);
    char *copy = (char *)DO(mmap(NULL, 100000, PROT_READ, MAP_PRIVATE, file, 0));
    if (copy != MAP_FAILED) {
        DO(madvise(copy, 4096, MADV_DONTNEED));
        munmap(copy, 100000);
    }
    close(file);
    char *end = sbrk(0);
    DO((long)sbrk(300000) == -1 ? -1 : 0);
    brk(end);
    uint64_t out[2];
    DO(syscall(0x4d00, out));
    long block = DO(syscall(0x4d01, 3 * MIB));
    if (block > 0) {
        long at = DO(syscall(0x4d02, block));
        if (at > 0)
            munmap((void *)at, 3 * MIB);
        syscall(0x4d03, block);
    }
}

static uint32_t words[2];
static volatile int waits;

static void *waiter(void *nothing)
{
    struct timespec soon = {0, 200000000};
    waits = 1;
    syscall(SYS_futex, words, FUTEX_WAIT_PRIVATE, 0, &soon);
    return nothing;
}

static void threads(void)
{
    /* Memory that is there: what has none for its stack ends by SIGBUS. */
    static char stack[256 << 10] __attribute__((aligned(16)));
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, sizeof stack);
    pthread_t thread;
    int result = DO((errno = pthread_create(&thread, &attributes, waiter, NULL)) ? -1 : 0);
    if (result == 0) {
        while (!waits)
            sched_yield();
        waits = 0;
        usleep(1000);
        DO(syscall(SYS_futex, words, FUTEX_REQUEUE_PRIVATE, 0, 1, words + 1));
        syscall(SYS_futex, words, FUTEX_WAKE_PRIVATE, 10);
        syscall(SYS_futex, words + 1, FUTEX_WAKE_PRIVATE, 10);
        pthread_join(thread, NULL);
    }
    struct timespec soon = {0, 100000};
    DO(syscall(SYS_futex, words, FUTEX_WAIT_PRIVATE, 0, &soon));
    DO(nanosleep(&soon, NULL));
    cpu_set_t here, there;
    sched_getaffinity(0, sizeof here, &here);
    CPU_ZERO(&there);
    CPU_SET(1, &there);
    DO(sched_setaffinity(0, sizeof there, &there));
    DO(sched_yield());
    sched_setaffinity(0, sizeof here, &here);
    sched_yield();
}

static void signals(void)
{
    sigset_t set;
    siginfo_t info;
    struct timespec now = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    DO(kill(getpid(), SIGUSR1));
    for (int i = 0; i < 6; i++)
        DO(sigqueue(getpid(), SIGRTMIN, (union sigval){i}));
    DO(pthread_kill(pthread_self(), SIGRTMIN));
    while (DO(sigtimedwait(&set, &info, &now)) > 0)
        ;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void processes(void)
{
    extern char **environ;
    char *child[] = {"no-memory", "child", NULL};
    pid_t id = -1;
    int status = 0;
    if (DO((errno = posix_spawn(&id, "/proc/self/exe", NULL, NULL, child, environ)) ? -1 : 0) == 0)
        DO(waitpid(id, &status, 0));
    while (waitpid(-1, &status, 0) > 0)
        ;
    DO(waitpid(-1, &status, WNOHANG));
    char *const arguments[] = {"x", buffer + 1000, NULL};
    memset(buffer, 'a', 8000);
    buffer[3000] = 0;
    DO(execve("/tmp/nothing", arguments, environ));
    DO(execve("tmp", arguments, environ));
}

static void policies(void)
{
    for (int kind = 4; kind >= 0; kind--)
        DO(syscall(0x4d04, 1, kind, 100000000));
    syscall(0x4d04, 1, 0, 100000000);
    struct sched_param priority = {0};
    DO(sched_setscheduler(0, SCHED_OTHER, &priority));
}

static void cores(void)
{
    int core = open("/sys/devices/system/cpu/cpu1/online", O_WRONLY);
    if (core < 0)
        return;
    DO(write(core, "0", 1));
    DO(write(core, "1", 1));
    for (int i = 0; i < 100 && write(core, "1", 1) < 0; i++)
        usleep(1000);
    close(core);
}

static const struct {
    const char *name;
    void (*run)(void);
} calls[] = {
    {"files", create},       {"names", names},     {"texts", texts},         {"descriptors", descriptors}, {"mappings", mappings},
    {"threads", threads},    {"signals", signals}, {"processes", processes}, {"policies", policies},       {"cores", cores},
};

enum { CALLS = sizeof calls / sizeof *calls };

static int is_known(int error)
{
    static const int known[] = {0,       ENOMEM, ENOSPC,    EAGAIN, ENOENT, ENODEV, EBUSY,   EINVAL, EPERM, EACCES, ENOEXEC,
                                ECHILD,  EINTR,  ETIMEDOUT, ENXIO,  ENOSYS, ESRCH,  ENOTTY,  EBADF,  EEXIST, EFAULT, EOPNOTSUPP};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (error == known[i])
            return 1;
    return 0;
}

static uint64_t free_memory(void)
{
    uint64_t out[2] = {0, 0};
    syscall(0x4d00, out);
    return out[1];
}

int main(int count, char **arguments)
{
    if (count > 1)
        return 0;
    if (fail(0, 0) < 0) {
        puts("the kernel does not let allocations fail");
        return 1;
    }
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = bus, .sa_flags = SA_SIGINFO}, NULL);
    setvbuf(stdout, NULL, _IOLBF, 4096);
    uint64_t before = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < CALLS; i++) {
            long sites[2];
            for (all = 0; all < 2; all++)
                for (failing = 1;; failing++) {
                    reached = 0, error = 0;
                    calls[i].run();
                    if (!is_known(error))
                        printf("%s, allocation %ld: %s\n", calls[i].name, failing, strerrorname_np(error));
                    if (!reached) {
                        sites[all] = failing - 1;
                        break;
                    }
                }
            failing = 0, error = 0;
            calls[i].run();
            if (error == ENOMEM || error == ENOSPC)
                printf("%s: %s with memory\n", calls[i].name, strerrorname_np(error));
            if (pass == 0)
                printf("%s: %s\n", calls[i].name, sites[0] > 0 && sites[1] > 0 ? "each allocation has failed" : "no allocation has failed");
        }
        if (pass == 0)
            before = free_memory();
    }
    printf("%s\n", free_memory() + (2 << 20) >= before ? "nothing is lost" : "memory is lost");
    puts("the kernel lives");
    return 0;
}
