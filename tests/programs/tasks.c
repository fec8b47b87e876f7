/* build: -pthread */
/* The directory of a process's threads. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 40 };

static pthread_barrier_t barrier;
static int numbers[THREADS + 1];

static void *waits(void *number)
{
    numbers[(long)number] = gettid();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* How often each number is in the directory. */
static void list(const char *path)
{
    DIR *directory = opendir(path);
    struct stat stat_;
    if (!directory) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    for (int turn = 0; turn < 2; turn++) {
        int count = 0, known = 0;
        for (struct dirent *entry; (entry = readdir(directory)); count++)
            for (int i = 0; i <= THREADS; i++)
                known += numbers[i] > 0 && atoi(entry->d_name) == numbers[i];
        printf("%s: %d entries, %d threads\n", path, count, known);
        rewinddir(directory);
    }
    printf("a directory: %d\n", !stat(path, &stat_) && S_ISDIR(stat_.st_mode));
    closedir(directory);
}

int main(void)
{
    char path[40], few[60];
    pthread_t threads[THREADS];
    numbers[THREADS] = gettid();
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, waits, (void *)i);
    pthread_barrier_wait(&barrier);
    list("/proc/self/task");
    sprintf(path, "/proc/%d/task", getpid());
    list(path);
    /* A few at a time. */
    int directory = open("/proc/self/task", O_RDONLY | O_DIRECTORY), pieces = 0;
    while (syscall(SYS_getdents64, directory, few, sizeof few) > 0)
        pieces++;
    printf("in pieces: %d\n", pieces >= (THREADS + 3) / 2);
    printf("too small: %ld\n", lseek(directory, 0, SEEK_SET) ? -1 : syscall(SYS_getdents64, directory, few, 8));
    printf("read: %zd %s\n", read(directory, few, 1), strerror(errno));
    printf("written: %d %s\n", open("/proc/self/task", O_WRONLY), strerror(errno));
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    memset(numbers, 0, sizeof numbers - sizeof *numbers);
    list("/proc/self/task");
    return 0;
}
