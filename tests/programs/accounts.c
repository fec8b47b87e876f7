/* A child takes of the kernel's memory what it can get: it is refused while there is plenty, the parent goes on meanwhile, and has all of it
   back afterwards. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t memory[2];

static uint64_t left(void)
{
    syscall(0x4d00, memory);
    return memory[1];
}

/* A page in each GiB: each takes two translation tables. */
static long pages(void)
{
    for (uint64_t count = 0; count < 100000; count++)
        if (mmap((void *)((count + 200) << 30), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
            return errno == ENOMEM ? (long)count : -1;
    return -1;
}

/* Lines to the parent, and the child waits for its end. */
static int child(void)
{
    long count = pages();
    int ends[2];
    printf("the child: %s, %s\n", count > 100 ? "refused" : "not refused", left() > memory[0] / 2 ? "half of the memory is free" : "memory is used up");
    printf("a pipe more: %s\n", pipe(ends) ? strerrorname_np(errno) : "done");
    fflush(stdout);
    write(3, "x", 1);
    pause();
    return 0;
}

static void *nothing(void *argument)
{
    return argument;
}

int main(int count, char **arguments)
{
    extern char **environ;
    if (count > 1)
        return child();
    uint64_t before[3];
    for (int turn = 0; turn < 3; turn++) {
        char *words[] = {"accounts", "child", NULL}, byte;
        int ends[2], more[2];
        pid_t id;
        pipe2(ends, O_CLOEXEC);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, ends[1], 3);
        if ((errno = posix_spawn(&id, "/proc/self/exe", &actions, NULL, words, environ))) {
            perror("spawn");
            return 1;
        }
        read(ends[0], &byte, 1);
        pthread_t thread;
        int thread_ = pthread_create(&thread, NULL, nothing, NULL);
        printf("the parent: a thread %s, a pipe %s\n", thread_ ? strerrorname_np(thread_) : "more", pipe(more) ? strerrorname_np(errno) : "more");
        pthread_join(thread, NULL);
        close(more[0]), close(more[1]), close(ends[0]), close(ends[1]);
        kill(id, SIGKILL);
        waitpid(id, NULL, 0);
        before[turn] = left();
    }
    /* The heap keeps what it has once had. */
    puts(before[2] + (4 << 20) >= before[0] ? "the third child is as the first" : "memory is lost");
    return 0;
}
