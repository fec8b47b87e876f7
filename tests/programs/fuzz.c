/* build: -pthread */
/* System calls with numbers, pointers, lengths and flags that make no sense, or too much of it: seed and count are the
   arguments. What would end the program by right (its own end, its own code unmapped) is left out; all else is fair. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARENA = 4 << 20 };

static uint64_t state;
static char *arena;
static volatile int over;
static pid_t fuzzer;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t pick(const uint64_t *list, int count)
{
    return list[next() % count];
}

static uint64_t pointer(void)
{
    switch (next() % 8) {
    case 0:
        return next();
    case 1:
        return next() % 65536;
    case 2:
        return 0xffff000000000000 + next() % (1ul << 40);
    case 3:
        return 0xffff800000000000 + next() % (1ul << 24);
    case 4:
        return (uint64_t)arena + ARENA - next() % 64;
    default:
        return (uint64_t)arena + next() % ARENA;
    }
}

static uint64_t number(void)
{
    static const uint64_t some[] = {0, 1, 2, 3, 7, 8, 16, 255, 4095, 4096, 65536, 1 << 20, 1ul << 31, -1ul >> 32,
                                    1ul << 32, 1ul << 47, 1ul << 62, -1ul >> 1, -1ul, -2ul, -4096ul};
    return next() % 4 ? pick(some, sizeof some / sizeof *some) : next() >> (next() % 64);
}

static uint64_t descriptor(void)
{
    static const uint64_t some[] = {0, 3, 4, 5, 6, 7, 8, 9, 10, 20, 1023, 1024, 0x7fffffff, -1ul, -100ul};
    return pick(some, sizeof some / sizeof *some);
}

static uint64_t any(void)
{
    switch (next() % 3) {
    case 0:
        return pointer();
    case 1:
        return descriptor();
    default:
        return number();
    }
}

/* In the arena, page by page: for calls that change mappings. */
static uint64_t page(void)
{
    return (uint64_t)arena + next() % (ARENA / 4096) * 4096;
}

static void *supervises(void *unused)
{
    while (!over) {
        usleep(500);
        syscall(SYS_tkill, fuzzer, SIGUSR1);
    }
    return unused;
}

static void nothing(int unused)
{
    (void)unused;
}

static void fill(void)
{
    static const char *const paths[] = {"/tmp/a",          "/tmp/b",         "/tmp/d/../a", "/proc/self/maps", "/dev/zero",
                                        "/dev/null",       "/dev/full",      "/",           "..",              "/fuzz",
                                        "/proc/self/exe/x", "/sys/devices/system/cpu/online"};
    for (int i = 0; i < 64; i++) {
        char *at = arena + next() % (ARENA - 64);
        if (next() % 2)
            strcpy(at, paths[next() % (sizeof paths / sizeof *paths)]);
        else
            for (int word = 0; word < 4; word++)
                ((uint64_t *)((uintptr_t)at & -8ul))[word] = any();
    }
}

int main(int count, char **arguments)
{
    long calls = count > 2 ? atol(arguments[2]) : 1000, errors = 0;
    pthread_t supervisor;
    struct sigaction action = {.sa_handler = nothing};
    state = 88172645463325252ul + (count > 1 ? atol(arguments[1]) : 1) * 2654435761ul;
    arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fuzzer = syscall(SYS_gettid);
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&supervisor, NULL, supervises, NULL);
    for (long i = 0; i < calls; i++) {
        long call = next() % 460;
        uint64_t a = any(), b = any(), c = any(), d = any(), e = any(), f = any();
        if (i % 512 == 0) {
            mmap(arena, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            fill();
            signal(SIGPIPE, SIG_IGN);
        }
        switch (call) {
        case SYS_exit:
        case SYS_exit_group:
        case SYS_rt_sigreturn:
        case SYS_rt_sigprocmask:
        case SYS_rt_sigaction:
        case SYS_rt_sigsuspend:
        case SYS_rt_sigtimedwait:
        case SYS_kill:
        case SYS_tkill:
        case SYS_tgkill:
        case SYS_set_tid_address:
        case SYS_set_robust_list:
        case SYS_brk:
            continue;
        case SYS_clone:
            /* Neither a thread nor a process: they would go on from here. */
            a &= ~0x14000ul;
            break;
        case SYS_execve:
            if (a >= (uint64_t)arena && a < (uint64_t)arena + ARENA && !strncmp((char *)a, "/fuzz", 6))
                continue;
            break;
        case SYS_clone3:
            memset(arena, 0, 4096);
            a = next() % 2 ? (uint64_t)arena : a;
            break;
        case SYS_mmap:
            a = page();
            b %= ARENA;
            d = (d & ~0x10ul) | (next() % 4 ? 0x22 : 0);
            break;
        case SYS_munmap:
        case SYS_mprotect:
        case SYS_madvise:
            a = page();
            b = next() % 8 * 4096;
            if (a + b > (uint64_t)arena + ARENA)
                continue;
            break;
        case SYS_mremap:
            a = page();
            b = next() % 4 * 4096;
            c %= 1 << 20;
            d &= 1;
            if (a + b > (uint64_t)arena + ARENA)
                continue;
            break;
        case SYS_read:
        case SYS_pread64:
        case SYS_readv:
        case SYS_getdents64:
        case SYS_write:
        case SYS_pwrite64:
        case SYS_writev:
        case SYS_ftruncate:
        case SYS_lseek:
        case SYS_close:
        case SYS_dup:
        case SYS_fcntl:
        case SYS_fstat:
        case SYS_ioctl:
            a = descriptor();
            break;
        case SYS_dup3:
            a = descriptor();
            b = descriptor();
            break;
        case SYS_openat:
            a = descriptor();
            b = (uint64_t)arena + next() % ARENA;
            break;
        }
        long result = syscall(SYS_getpid);
        register long x8 __asm__("x8") = call, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                          x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
        __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
        if (x0 < 0 && x0 >= -4095)
            errors++;
        if (result != syscall(SYS_getpid))
            return puts("another process?"), 1;
    }
    over = 1;
    pthread_join(supervisor, NULL);
    printf("%ld calls%s\n", calls, errors > calls / 2 ? "" : ", few of them refused?");
    puts("the kernel lives");
    return 0;
}
