/* build: -pthread */
/* The scheduling policies of a core, changed while it runs: priorities, weights, reservations. For one core. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_ROBIN, PINNED, FIFO, SHARE, EDF, THREADS = 3 };

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static volatile int order[THREADS], arrived;
static volatile long work[2];
static volatile int tids[2], go, stop;

static long set_policy(int kind, long quantum)
{
    return syscall(0x4d04, 0, kind, quantum);
}

static void *arrives(void *number)
{
    order[arrived++] = (long)number;
    return NULL;
}

static void *works(void *number)
{
    tids[(long)number] = syscall(SYS_gettid);
    while (!go)
        sched_yield();
    while (!stop)
        work[(long)number]++;
    return NULL;
}

/* Two threads work for a while, set up by `prepare`; returns how often the first did so, in percent of both. */
static long compete(void (*prepare)(void))
{
    struct timespec length = {0, 400000000};
    pthread_t threads[2];
    go = stop = work[0] = work[1] = tids[0] = tids[1] = 0;
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, works, (void *)i);
    while (!tids[0] || !tids[1])
        sched_yield();
    prepare();
    go = 1;
    nanosleep(&length, NULL);
    stop = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return work[0] * 100 / (work[0] + work[1]);
}

static void equal(void)
{
}

static void weighted(void)
{
    setpriority(PRIO_PROCESS, tids[1], 5);
}

static long reserve(int tid, long runtime, long period)
{
    struct attributes attributes = {
        .size = sizeof attributes, .policy = 6, .runtime = runtime, .deadline = period, .period = period};
    return syscall(SYS_sched_setattr, tid, &attributes, 0);
}

/* Prints the policy and priority of the calling thread. */
static void print_policy(const char *policy)
{
    struct sched_param parameters = {.sched_priority = -1};
    int number = sched_getscheduler(0), result = sched_getparam(0, &parameters);
    printf("%s: policy %d, priority %d, %d\n", policy, number, parameters.sched_priority, result);
}

static void reserved(void)
{
    printf("reserved %ld\n", reserve(tids[0], 3000000, 10000000));
    printf("edf: policies %d and %d\n", sched_getscheduler(tids[0]), sched_getscheduler(tids[1]));
    printf("too much %ld, busy %d\n", reserve(tids[1], 8000000, 10000000), errno == EBUSY);
}

static void print_share(const char *what, long percent, long low, long high)
{
    if (percent >= low && percent <= high)
        printf("%s: as it should be\n", what);
    else
        printf("%s: %ld %%\n", what, percent);
}

int main(void)
{
    static const int priorities[THREADS] = {10, 30, 20};
    struct sched_param own = {.sched_priority = 50};
    pthread_t threads[THREADS];
    printf("a priority without priorities %d %d\n", sched_setscheduler(0, SCHED_FIFO, &own), errno == EPERM);
    printf("fifo %ld\n", set_policy(FIFO, 0));
    printf("priority %d\n", sched_setscheduler(0, SCHED_FIFO, &own));
    print_policy("fifo");
    for (long i = 0; i < THREADS; i++) {
        struct sched_param parameters = {.sched_priority = priorities[i]};
        pthread_create(&threads[i], NULL, arrives, (void *)i);
        pthread_setschedparam(threads[i], SCHED_FIFO, &parameters);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("order %d %d %d\n", order[0], order[1], order[2]);

    printf("share %ld\n", set_policy(SHARE, 1000000));
    print_policy("share");
    print_share("equal weights", compete(equal), 35, 65);
    print_share("three to one", compete(weighted), 60, 88);

    printf("edf %ld\n", set_policy(EDF, 1000000));
    print_share("three tenths", compete(reserved), 18, 45);

    printf("round-robin %ld\n", set_policy(ROUND_ROBIN, 1000000));
    print_share("turns", compete(equal), 35, 65);
    return 0;
}
