/* build: -pthread */
/* Restartable sequences: counters of a core that several threads of it increment without locks or exclusive accesses, while
   their turns are short and signals come; what may be registered; threads that are moved. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <spawn.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, CORES = 16, SIGNATURE = 0xd428bc00 };

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static volatile struct {
    unsigned long count;
    char padding[120];
} counters[CORES];
static atomic_ulong aborts;
static atomic_int running;
static atomic_int handled;
static long rounds;

static volatile struct rseq *area(void)
{
    return (volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* Adds 1 to the counter of the core that this runs on. The section is long, so that it is interrupted now and then. */
__attribute__((noinline)) static void increment(void)
{
    volatile struct rseq *rseq = area();
    for (;;) {
        unsigned long core = rseq->cpu_id_start;
        volatile unsigned long *counter = &counters[core].count;
        __asm__ goto(
            ".pushsection .data.rel.ro, \"aw\"\n"
            ".balign 32\n"
            "9: .word 0, 0\n"
            ".quad 1f, 2f - 1f, 4f\n"
            ".popsection\n"
            "adrp x9, 9b\n"
            "add x9, x9, :lo12:9b\n"
            "str x9, [%[rseq], #8]\n"
            "1: ldr w9, [%[rseq], #4]\n"
            "cmp w9, %w[core]\n"
            "b.ne 4f\n"
            "ldr x9, [%[counter]]\n"
            "mov w10, #200\n"
            "3: subs w10, w10, #1\n"
            "b.ne 3b\n"
            "add x9, x9, #1\n"
            "str x9, [%[counter]]\n"
            "2: b 5f\n"
            ".word 0xd428bc00\n"
            "4: b %l[aborted]\n"
            "5:\n"
            :
            : [rseq] "r"(rseq), [core] "r"(core), [counter] "r"(counter)
            : "x9", "x10", "cc", "memory"
            : aborted);
        return;
    aborted:
        atomic_fetch_add(&aborts, 1);
    }
}

static void handler(int number)
{
    (void)number;
    handled++;
    increment();
}

static void *work(void *unused)
{
    (void)unused;
    for (long i = 0; i < rounds; i++)
        increment();
    running--;
    return NULL;
}

static long call(volatile void *address, unsigned length, int flags, unsigned signature)
{
    return syscall(SYS_rseq, address, length, flags, signature) ? -errno : 0;
}

static void *registrations(void *result)
{
    static char memory[4096] __attribute__((aligned(32)));
    struct rseq *own = (struct rseq *)memory;
    volatile struct rseq *libc = area();
    printf("again %ld\n", call(libc, __rseq_size, 0, SIGNATURE));
    printf("another signature %ld\n", call(libc, __rseq_size, 0, 1));
    printf("another area %ld\n", call(own, 32, 0, SIGNATURE));
    printf("unknown flags %ld\n", call(libc, __rseq_size, 2, SIGNATURE));
    printf("gone with another signature %ld\n", call(libc, __rseq_size, 1, 1));
    printf("gone with another length %ld\n", call(libc, 64, 1, SIGNATURE));
    printf("gone %ld, id %d\n", call(libc, __rseq_size, 1, SIGNATURE), (int)libc->cpu_id);
    printf("gone twice %ld\n", call(libc, __rseq_size, 1, SIGNATURE));
    printf("small %ld\n", call(own, 28, 0, SIGNATURE));
    printf("not aligned %ld\n", call(memory + 16, 32, 0, SIGNATURE));
    printf("nowhere %ld\n", call((void *)0x20, 32, 0, SIGNATURE));
    memset(memory, 0xff, sizeof memory);
    printf("large %ld\n", call(own, 64, 0, SIGNATURE));
    printf("section %d, id %d, as the library's before: %d\n", own->rseq_cs != 0, (int)own->cpu_id,
           own->cpu_id == own->cpu_id_start);
    printf("back %ld\n", call(own, 64, 1, SIGNATURE) + call(libc, __rseq_size, 0, SIGNATURE));
    *(int *)result = sched_getcpu();
    return NULL;
}

static void on(pthread_t thread, unsigned long core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    pthread_setaffinity_np(thread, sizeof set, &set);
}

/* A section whose abort has no signature in front of it, and a handler's call in it. */
static int bad_section(void)
{
    static struct rseq_cs section __attribute__((aligned(32)));
    volatile struct rseq *rseq = area();
    section.start_ip = (unsigned long)increment;
    section.post_commit_offset = 4;
    section.abort_ip = (unsigned long)work;
    rseq->rseq_cs = (unsigned long)&section;
    raise(SIGUSR1);
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    unsigned long cores = argc > 1 ? strtoul(argv[1], NULL, 0) : 1, sum = 0;
    struct sigaction action = {.sa_handler = handler};
    int core = -1, status = 0;
    long sent = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGUSR1, &action, NULL);
    if (argc > 2)
        return bad_section();
    printf("feature size %lu, alignment %lu\n", getauxval(27), getauxval(28));
    printf("the C library uses it: %d\n", __rseq_size == 32 && (int)area()->cpu_id >= 0);
    pthread_create(&threads[0], NULL, registrations, &core);
    pthread_join(threads[0], NULL);
    printf("on a core: %d\n", core >= 0 && core < (int)cores);
    for (unsigned long to = cores; to-- > 0;) {
        on(pthread_self(), to);
        unsigned seen = area()->cpu_id, from_kernel = -1;
        syscall(SYS_getcpu, &from_kernel, NULL, NULL);
        if (seen != to || area()->cpu_id_start != to || from_kernel != to || sched_getcpu() != (int)to)
            printf("on core %lu, it says %u\n", to, seen);
    }
    puts("moved");

    rounds = cores > 1 ? 200000 : 60000;
    running = THREADS;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    while (running > 0) {
        struct timespec pause = {0, 300000};
        for (int i = 0; i < THREADS; i++) {
            sent += !pthread_kill(threads[i], SIGUSR1);
            /* Most signals come to where nothing else happens. */
            if (cores > 1 && sent % 8 == 0)
                on(threads[i], sent / 8 % cores);
        }
        nanosleep(&pause, NULL);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CORES; i++)
        sum += counters[i].count;
    printf("lost increments: %ld\n", rounds * THREADS + (long)handled - (long)sum);
    printf("signals came: %d, sections were aborted: %d\n", handled > 0 && handled <= sent, aborts > 10);

    char *again[] = {argv[0], "1", "bad", NULL};
    pid_t child;
    if (posix_spawn(&child, argv[0], NULL, NULL, again, NULL) || waitpid(child, &status, 0) != child)
        return 1;
    printf("without a signature: %s\n", WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? "SIGSEGV" : "nothing");
    return 0;
}
