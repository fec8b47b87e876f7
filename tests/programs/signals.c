/* build: -pthread */
/* Handlers, on an alternate stack too; faults that are caught, skipped or left by a jump; the guard page below the stack;
   masks, waiting for signals, interrupted and restarted calls. Ends by SIGABRT. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int handled;
static volatile double value = 1.25;
static void *volatile fault_address;
static char other_stack[64 << 10];
static int ends[2];

static void handler(int number, siginfo_t *info, void *context)
{
    (void)context;
    handled++;
    value *= 2;
    if (number == SIGSEGV) {
        fault_address = info->si_addr;
        siglongjmp(back, 1);
    }
}

static void skips(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info;
    ((ucontext_t *)context)->uc_mcontext.pc += 4;
    handled += 100;
}

__attribute__((noinline)) static int deep(int depth)
{
    volatile char frame[4096];
    frame[0] = depth;
    return deep(depth + 1) + frame[0];
}

static void *waits(void *unused)
{
    sigset_t set;
    int number = 0;
    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigwait(&set, &number);
    return (void *)(long)number;
}

static void *interrupts(void *thread)
{
    struct timespec pause = {0, 100000000};
    nanosleep(&pause, NULL);
    pthread_kill((pthread_t)thread, SIGUSR1);
    nanosleep(&pause, NULL);
    if (write(ends[1], "x", 1) != 1)
        return NULL;
    return NULL;
}

int main(void)
{
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigset_t set, old;
    pthread_t thread;
    void *result;
    char byte;
    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    printf("handled %d, value %g\n", handled, value);
    if (!sigsetjmp(back, 1))
        *(volatile int *)0x123 = 1;
    printf("fault at %p\n", fault_address);
    if (!sigsetjmp(back, 1))
        *(volatile char *)(void *)main = 1;
    printf("code is not writable: %d\n", fault_address == (void *)main);
    if (!sigsetjmp(back, 1))
        deep(0);
    puts("the stack has an end");
    action.sa_sigaction = skips;
    sigaction(SIGILL, &action, NULL);
    __asm__ volatile(".inst 0");
    sigaction(SIGTRAP, &action, NULL);
    __asm__ volatile("brk #1");
    printf("skipped, %d\n", handled);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_create(&thread, NULL, waits, NULL);
    usleep(1000);
    pthread_kill(thread, SIGUSR2);
    pthread_join(thread, &result);
    printf("waited for %d\n", (long)result == SIGUSR2);
    raise(SIGUSR2);
    sigpending(&old);
    printf("pending %d\n", sigismember(&old, SIGUSR2));
    signal(SIGUSR2, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    puts("ignored");

    if (pipe(ends))
        return 1;
    for (int restarts = 0; restarts < 2; restarts++) {
        action.sa_sigaction = handler;
        action.sa_flags = SA_SIGINFO | (restarts ? SA_RESTART : 0);
        sigaction(SIGUSR1, &action, NULL);
        pthread_create(&thread, NULL, interrupts, (void *)pthread_self());
        errno = 0;
        long got = read(ends[0], &byte, 1);
        printf("read %ld, interrupted %d\n", got, errno == EINTR);
        pthread_join(thread, NULL);
        if (got < 0 && read(ends[0], &byte, 1) != 1)
            return 1;
    }
    printf("%d handled\n", handled % 100);
    fflush(stdout);
    abort();
}
