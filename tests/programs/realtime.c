/* build: -pthread */
/* Real-time signals: each is queued, with what its sender says, and they come in order; other signals come once. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static sigset_t all;
static volatile int order[64], values[64], count, others;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (count < 64) {
        order[count] = number < SIGRTMIN ? number : 100 + number - SIGRTMIN;
        values[count++] = info->si_code == SI_QUEUE ? info->si_value.sival_int : -1;
    }
    others += info->si_pid != getpid();
}

static void send(int number, int value)
{
    union sigval with = {.sival_int = value};
    if (sigqueue(getpid(), number, with))
        printf("not sent: %s\n", strerror(errno));
}

static void *waits(void *unused)
{
    siginfo_t info;
    (void)unused;
    for (int i = 0; i < 2; i++) {
        int number = sigwaitinfo(&all, &info);
        printf("thread: %d, value %d, queued %d\n", number - SIGRTMIN, info.si_value.sival_int, info.si_code == SI_QUEUE);
    }
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    struct timespec now = {0, 0};
    union sigval value;
    siginfo_t info;
    pthread_t thread;
    sigset_t pending;
    int number, sent = 0;
    sigfillset(&all);
    sigdelset(&all, SIGABRT);
    action.sa_mask = all;
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 3; i++)
        sigaction(SIGRTMIN + i, &action, NULL);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    send(SIGRTMIN + 1, 10);
    send(SIGRTMIN, 1);
    send(SIGUSR1, 7);
    send(SIGRTMIN + 1, 11);
    send(SIGUSR1, 8);
    send(SIGRTMIN, 2);
    kill(getpid(), SIGRTMIN + 2);
    kill(getpid(), SIGRTMIN + 2);
    sigpending(&pending);
    printf("pending %d %d %d %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGRTMIN),
           sigismember(&pending, SIGRTMIN + 1), sigismember(&pending, SIGRTMIN + 3));
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    for (int i = 0; i < count; i++)
        printf("handled %d, value %d\n", order[i], values[i]);
    printf("of others: %d\n", others);

    pthread_sigmask(SIG_BLOCK, &all, NULL);
    send(SIGRTMIN + 2, 3);
    send(SIGRTMIN + 1, 4);
    send(SIGRTMIN + 2, 5);
    while ((number = sigtimedwait(&all, &info, &now)) > 0)
        printf("waited for %d, value %d\n", number - SIGRTMIN, info.si_value.sival_int);
    printf("then %d\n", errno == EAGAIN);

    pthread_create(&thread, NULL, waits, NULL);
    value.sival_int = 42;
    pthread_sigqueue(thread, SIGRTMIN + 3, value);
    value.sival_int = 43;
    pthread_sigqueue(thread, SIGRTMIN + 3, value);
    pthread_join(thread, NULL);

    memset(&info, 0, sizeof info);
    info.si_code = SI_USER;
    printf("as the kernel: %ld, %d\n", syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &info), errno == EPERM || errno == ESRCH);
    printf("nobody: %d, %d\n", sigqueue(1 << 22, SIGRTMIN, value), errno == ESRCH);
    printf("no signal: %d, %d\n", sigqueue(getpid(), 65, value), errno == EINVAL);
    while (sent < 1000000 && !sigqueue(getpid(), SIGRTMIN, value))
        sent++;
    printf("the queue has an end: %d, %d\n", sent > 100 && sent < 1000000, errno == EAGAIN);
    printf("kill does not mind: %d\n", kill(getpid(), SIGRTMIN));
    for (number = 0; sigtimedwait(&all, &info, &now) > 0;)
        number++;
    printf("all of them came: %d\n", number >= sent);
    return 0;
}
