/* build: -pthread */
/* What the kernel costs a program, in ticks of the counter: with -icount and a counter of 1 GHz these are instructions.
   The best of some rounds; the counter's two reads are in every figure, loops are not. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 64 };

static volatile uint32_t word, stop;
static volatile uint64_t woke_at, switched_at;

static inline uint64_t now(void)
{
    uint64_t ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks)::"memory");
    return ticks;
}

static inline long call(long number, long a, long b, long c)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                      x3 __asm__("x3") = 0;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}

#define BEST(name, statement)                                                                                        \
    do {                                                                                                             \
        uint64_t best = -1;                                                                                          \
        for (int round = 0; round < ROUNDS; round++) {                                                               \
            uint64_t from = now();                                                                                   \
            statement;                                                                                               \
            uint64_t took = now() - from;                                                                            \
            if (took < best)                                                                                         \
                best = took;                                                                                         \
        }                                                                                                            \
        printf("@bench path=%s instructions=%lu\n", name, best);                                                     \
    } while (0)

/* Says when it runs, after each yield of the other one. */
static void *yields(void *unused)
{
    (void)unused;
    while (!stop) {
        switched_at = now();
        call(SYS_sched_yield, 0, 0, 0);
    }
    return NULL;
}

static void *waits(void *unused)
{
    (void)unused;
    while (!stop) {
        call(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 0);
        woke_at = now();
    }
    return NULL;
}

/* Sleeps again and again: its time comes while the other one works, and it has to wait. */
static void *sleeps(void *unused)
{
    (void)unused;
    struct timespec time = {0, 200000};
    while (!stop)
        nanosleep(&time, NULL);
    return NULL;
}

/* What a timer interrupt takes from a thread that it does not stop: one of a higher priority. */
static uint64_t tick(void)
{
    pthread_t thread;
    struct sched_param high = {50}, low = {1};
    struct timespec time = {0, 50000};
    uint64_t best = -1;
    stop = 0;
    if (syscall(0x4d04, sched_getcpu(), 2, 0) || sched_setscheduler(0, SCHED_FIFO, &high))
        return 0;
    pthread_create(&thread, NULL, sleeps, NULL);
    pthread_setschedparam(thread, SCHED_FIFO, &low);
    for (int round = 0; round < ROUNDS; round++) {
        nanosleep(&time, NULL);
        uint64_t longest = 0, usual = -1, start = now(), last = start;
        while (last - start < 400000) {
            uint64_t here = now();
            if (here - last > longest)
                longest = here - last;
            if (here - last < usual)
                usual = here - last;
            last = here;
        }
        /* Some rounds have none. With the counter's two reads, as all figures. */
        if (longest > 60 && longest - usual + 2 < best)
            best = longest - usual + 2;
    }
    stop = 1;
    pthread_join(thread, NULL);
    syscall(0x4d04, sched_getcpu(), 0, 100000000);
    /* A thread that was joined has still a last step to do in the kernel. */
    nanosleep(&time, NULL);
    return best;
}

int main(int count, char **arguments)
{
    struct timespec time;
    pthread_t thread;
    uint64_t best;
    clock_gettime(CLOCK_MONOTONIC, &time);
    printf("@bench path=boot-to-program instructions=%lu\n", time.tv_sec * 1000000000 + time.tv_nsec);
    BEST("null-system-call", call(SYS_getppid, 0, 0, 0));
    BEST("sched-yield", call(SYS_sched_yield, 0, 0, 0));
    BEST("clock-read", clock_gettime(CLOCK_MONOTONIC, &time));

    best = -1;
    pthread_create(&thread, NULL, yields, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t from = now();
        call(SYS_sched_yield, 0, 0, 0);
        uint64_t took = switched_at - from;
        if (switched_at > from && took < best)
            best = took;
    }
    stop = 1;
    pthread_join(thread, NULL);
    printf("@bench path=thread-switch instructions=%lu\n", best);

    stop = 0;
    best = -1;
    pthread_create(&thread, NULL, waits, NULL);
    sched_yield();
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t from = now();
        call(SYS_futex, (long)&word, FUTEX_WAKE_PRIVATE, 1);
        /* The woken thread runs when this one waits. */
        call(SYS_sched_yield, 0, 0, 0);
        uint64_t took = woke_at - from;
        if (woke_at > from && took < best)
            best = took;
    }
    stop = 1;
    call(SYS_futex, (long)&word, FUTEX_WAKE_PRIVATE, 1);
    pthread_join(thread, NULL);
    printf("@bench path=futex-wake instructions=%lu\n", best);

    printf("@bench path=tick instructions=%lu\n", tick());

    /* Selfish detour: reads of the clock that are further apart than the loop between them. */
    uint64_t length = count > 1 ? strtoul(arguments[1], NULL, 0) : 100000000;
    uint64_t start = now(), last = start, usual = -1, longest = 0, detours = 0;
    for (int round = 0; round < 1000; round++) {
        uint64_t here = now();
        if (round > 10 && here - last < usual)
            usual = here - last;
        last = here;
    }
    for (last = now(); last - start < length;) {
        uint64_t here = now();
        if (here - last > 4 * usual) {
            detours++;
            if (here - last > longest)
                longest = here - last;
        }
        last = here;
    }
    printf("@bench path=detours instructions=%lu\n", detours);
    printf("longest detour %lu\n", longest);
    return 0;
}
