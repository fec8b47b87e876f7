/* build: -pthread */
/* A core is switched off while threads compute, sleep and wait on it, and on again. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CORE 2

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t begun;
static volatile int signalled, off, over, handled;
static volatile long computed;
static int ends[2];

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set))
        puts("cannot be pinned");
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static const char *write_word(int core, const char *word)
{
    char path[64];
    sprintf(path, "/sys/devices/system/cpu/cpu%d/online", core);
    int file = open(path, O_WRONLY);
    if (file < 0)
        return strerror(errno);
    const char *outcome = write(file, word, 1) == 1 ? "done" : strerror(errno);
    close(file);
    return outcome;
}

static void *computes(void *result)
{
    pin(CORE);
    double sum = 0;
    pthread_barrier_wait(&begun);
    for (long i = 1; !over; i++) {
        sum += 1.0 / i;
        computed = i;
    }
    /* Its FP registers went with it. */
    double again = 0;
    for (long i = 1; i <= computed; i++)
        again += 1.0 / i;
    *(int *)result = sum == again ? sched_getcpu() : -1;
    return NULL;
}

static void *waits(void *result)
{
    pin(CORE);
    pthread_barrier_wait(&begun);
    pthread_mutex_lock(&mutex);
    while (!signalled)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    *(int *)result = sched_getcpu();
    return NULL;
}

static void *sleeps(void *result)
{
    pin(CORE);
    pthread_barrier_wait(&begun);
    int wrong = 0;
    /* Until a sleep has ended after the core went. */
    do {
        double since = now();
        struct timespec time = {0, 300000000};
        wrong |= nanosleep(&time, NULL) || now() - since < 0.3;
    } while (!off);
    *(int *)result = wrong ? -1 : sched_getcpu();
    return NULL;
}

static void *reads(void *result)
{
    char byte;
    pin(CORE);
    pthread_barrier_wait(&begun);
    *(int *)result = read(ends[0], &byte, 1) == 1 && byte == 'x' ? sched_getcpu() : -1;
    return NULL;
}

static void *times_out(void *result)
{
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    int outcome;
    pin(CORE);
    pthread_barrier_wait(&begun);
    do {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        pthread_mutex_lock(&mutex);
        outcome = pthread_cond_timedwait(&never, &mutex, &until);
        pthread_mutex_unlock(&mutex);
    } while (outcome == ETIMEDOUT && !off);
    *(int *)result = outcome == ETIMEDOUT ? sched_getcpu() : -1;
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void *suspended(void *result)
{
    sigset_t none;
    pin(CORE);
    sigemptyset(&none);
    pthread_barrier_wait(&begun);
    int outcome = sigsuspend(&none);
    *(int *)result = outcome == -1 && errno == EINTR && handled == 1 ? sched_getcpu() : -1;
    return NULL;
}

int main(void)
{
    static void *(*const bodies[])(void *) = {computes, waits, sleeps, reads, times_out, suspended};
    enum { COUNT = sizeof bodies / sizeof *bodies };
    int results[COUNT];
    pthread_t threads[COUNT];
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGUSR1, on_signal);
    pin(1);
    pipe(ends);
    pthread_barrier_init(&begun, NULL, COUNT + 1);
    printf("cores %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    for (int i = 0; i < COUNT; i++)
        pthread_create(&threads[i], NULL, bodies[i], &results[i]);
    pthread_barrier_wait(&begun);
    /* So that they probably wait; whatever they do instead, all that follows holds. */
    usleep(20000);
    printf("off: %s\n", write_word(CORE, "0"));
    printf("cores %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    off = 1;
    /* It goes on, or the scenario ends here. */
    for (long before = computed; computed == before;)
        usleep(1000);
    puts("it goes on");
    pthread_mutex_lock(&mutex);
    signalled = 1;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&mutex);
    write(ends[1], "x", 1);
    pthread_kill(threads[5], SIGUSR1);
    for (int i = 1; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    over = 1;
    pthread_join(threads[0], NULL);
    for (int i = 0; i < COUNT; i++)
        if (results[i] < 0 || results[i] == CORE)
            printf("thread %d: %d\n", i, results[i]);
    printf("off again: %s\n", write_word(CORE, "0"));
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(CORE, &set);
    printf("pinned there: %s\n", sched_setaffinity(0, sizeof set, &set) ? strerror(errno) : "done");
    printf("the first: %s\n", write_word(0, "0"));
    printf("the own: %s\n", write_word(1, "0"));
    printf("a strange word: %s\n", write_word(CORE, "x"));
    printf("on: %s\n", write_word(CORE, "1"));
    printf("cores %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    for (int i = 0; i < 20; i++)
        if (strcmp(write_word(CORE, "0"), "done") || strcmp(write_word(CORE, "1"), "done"))
            puts("not every time");
    pin(CORE);
    printf("runs on %d\n", sched_getcpu());
    return 0;
}
