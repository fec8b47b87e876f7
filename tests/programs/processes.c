/* build: -pthread */
/* Starts itself again, in several ways, and prints how each ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t children;
static char *self;

static void on_child(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    if (info->si_pid > 0)
        children++;
}

static pid_t start(char *what, posix_spawn_file_actions_t *actions) {
    char *arguments[] = { "processes", what, NULL }, *environment[] = { "CHILD=yes", NULL };
    pid_t child;
    int error = posix_spawn(&child, self, actions, NULL, arguments, environment);
    if (error) {
        printf("%s cannot be started: %s\n", what, strerror(error));
        exit(1);
    }
    return child;
}

static void *execute(void *what) {
    char *arguments[] = { "processes", what, NULL };
    execv(self, arguments);
    return NULL;
}

static void *wait_for_ever(void *nothing) {
    for (;;)
        pause();
    return nothing;
}

static int child(const char *what) {
    if (!strcmp(what, "status"))
        return getenv("CHILD") && getppid() == 1 ? 42 : 1;
    if (!strcmp(what, "signal"))
        raise(SIGTERM);
    if (!strcmp(what, "crash"))
        *(volatile int *)16 = 1;
    if (!strcmp(what, "wait"))
        wait_for_ever(NULL);
    if (!strcmp(what, "write"))
        return write(STDOUT_FILENO, "through a pipe", 14) == 14 ? 0 : 1;
    if (!strcmp(what, "closed"))
        return fcntl(9, F_GETFD) == -1 && errno == EBADF && fcntl(8, F_GETFD) == 0 ? 0 : 1;
    if (!strcmp(what, "core")) {
        cpu_set_t cores;
        sched_getaffinity(0, sizeof cores, &cores);
        return CPU_COUNT(&cores) == 1 ? sched_getcpu() : 99;
    }
    if (!strcmp(what, "threads")) {
        // Not the first thread: the number of the process stays, and its threads end.
        pthread_t thread;
        printf("process %d\n", getpid());
        fflush(stdout);
        pthread_create(&thread, NULL, wait_for_ever, NULL);
        pthread_create(&thread, NULL, execute, "after-threads");
        wait_for_ever(NULL);
    }
    if (!strcmp(what, "after-threads")) {
        printf("process %d, thread %d\n", getpid(), gettid());
        return 7;
    }
    if (!strcmp(what, "orphan")) {
        start("late", NULL);
        return 0;
    }
    if (!strcmp(what, "late")) {
        while (getppid() != 1)
            usleep(1000);
        return 5;
    }
    if (!strcmp(what, "work")) {
        struct timespec used;
        do
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        while (used.tv_nsec < 20000000);
        return 0;
    }
    return 99;
}

static void print_status(const char *what, int status) {
    if (WIFEXITED(status))
        printf("%s: status %d\n", what, WEXITSTATUS(status));
    else
        printf("%s: signal %d\n", what, WTERMSIG(status));
}

static void await(char *what) {
    int status;
    pid_t id = start(what, NULL);
    if (waitpid(id, &status, 0) != id)
        printf("%s is not to be waited for\n", what);
    print_status(what, status);
}

int main(int count, char **arguments) {
    self = "/proc/self/exe";
    if (count > 1 && arguments[1][0] != '-')
        return child(arguments[1]);
    int status, ends[2];
    char text[32] = "";
    struct sigaction action = { .sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGCHLD, &action, NULL);

    printf("without children: %s\n", waitpid(-1, &status, 0) == -1 ? strerror(errno) : "?");
    await("status");
    await("signal");
    await("crash");
    await("threads");
    printf("SIGCHLD for %d\n", (int)children);

    pid_t waits = start("wait", NULL);
    printf("before: %d\n", waitpid(waits, &status, WNOHANG));
    kill(waits, SIGKILL);
    siginfo_t info;
    waitid(P_PID, waits, &info, WEXITED | WNOWAIT);
    printf("killed: %d by %d\n", info.si_code == CLD_KILLED, info.si_status);
    waitpid(waits, &status, 0);
    print_status("wait", status);
    printf("twice: %s\n", waitpid(waits, &status, 0) == -1 ? strerror(errno) : "?");
    printf("gone: %s\n", kill(waits, 0) == -1 ? strerror(errno) : "?");

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    pipe(ends);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    start("write", &actions);
    close(ends[1]);
    ssize_t length = 0, piece;
    while ((piece = read(ends[0], text + length, sizeof text - length)) > 0)
        length += piece;
    wait(&status);
    printf("%s, status %d\n", text, status);

    dup3(0, 8, 0);
    dup3(0, 9, O_CLOEXEC);
    await("closed");

    // One on each core that there is, all at once.
    cpu_set_t all, one;
    pid_t pinned[8];
    sched_getaffinity(0, sizeof all, &all);
    int cores = CPU_COUNT(&all);
    for (int core = 0; core < cores && core < 8; core++) {
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        sched_setaffinity(0, sizeof one, &one);
        pinned[core] = start("core", NULL);
    }
    sched_setaffinity(0, sizeof all, &all);
    for (int core = 0; core < cores && core < 8; core++) {
        waitpid(pinned[core], &status, 0);
        printf("core %d: %d\n", core, WEXITSTATUS(status));
    }

    // An orphan is the first process's child.
    await("orphan");
    pid_t late = wait(&status);
    printf("inherited: %d\n", late > 0);
    print_status("late", status);

    struct rusage usage;
    await("work");
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("children used 20 ms: %d\n", usage.ru_utime.tv_sec > 0 || usage.ru_utime.tv_usec >= 20000);

    char *nothing[] = { NULL };
    execve("/no/such/program", nothing, nothing);
    printf("no file: %s\n", strerror(errno));
    execve("/dev/null", nothing, nothing);
    printf("no program: %s\n", strerror(errno));
    pid_t no;
    printf("not started: %s\n", strerror(posix_spawn(&no, "/no/such/program", NULL, NULL, nothing, nothing)));
    printf("fork: %s\n", fork() == -1 ? strerror(errno) : "?");

    signal(SIGCHLD, SIG_IGN);
    start("status", NULL);
    printf("forgotten: %s\n", wait(&status) == -1 ? strerror(errno) : "?");

    // Left behind: it ends with this process.
    start("wait", NULL);
    return 0;
}
