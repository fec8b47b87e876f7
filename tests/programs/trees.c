/* build: -pthread */
/* Directories are read while their entries go, files grow, threads have large stacks, a mapping is never out of date. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 3000, THREADS = 16, MIB = 1 << 20 };

static pthread_barrier_t barrier;

static void *touches(void *unused)
{
    volatile char space[3 * MIB];
    for (int at = 0; at < (int)sizeof space; at += 4096)
        space[at] = 1;
    pthread_barrier_wait(&barrier);
    return unused;
}

static void remove_tree(void)
{
    char name[300];
    int removed = 0, kept = 0;
    mkdir("/tmp/tree", 0700);
    for (int i = 0; i < FILES; i++) {
        sprintf(name, "/tmp/tree/%x-%d", i * 7919, i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    DIR *directory = opendir("/tmp/tree");
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        sprintf(name, "/tmp/tree/%s", entry->d_name);
        if ((removed + kept) % 3 == 2)
            kept++;
        else if (unlink(name) == 0)
            removed++;
    }
    printf("%d removed, %d kept\n", removed, kept);
    rewinddir(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        sprintf(name, "/tmp/tree/%s", entry->d_name);
        if (entry->d_name[0] != '.' && unlink(name) == 0)
            removed++;
    }
    closedir(directory);
    printf("%d removed, rmdir %d\n", removed, rmdir("/tmp/tree"));
}

static void grow(void)
{
    static char block[MIB], check[MIB];
    int file = open("/tmp/grows", O_CREAT | O_RDWR, 0600), wrong = 0;
    for (int i = 0; i < 96; i++) {
        memset(block, i, sizeof block);
        if (write(file, block, sizeof block) != sizeof block)
            wrong++;
    }
    pwrite(file, "across", 6, 64 * 1024 * 5 - 3);
    pread(file, check, 8, 64 * 1024 * 5 - 4);
    wrong += memcmp(check, "\0across\0", 8) != 0;
    for (int i = 1; i < 96; i++) {
        memset(block, i, sizeof block);
        if (pread(file, check, sizeof check, (long)i * MIB) != sizeof check || memcmp(block, check, sizeof block))
            wrong++;
    }
    printf("%d blocks wrong\n", wrong);
    char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    printf("shared: %s\n", map == MAP_FAILED ? strerrorname_np(errno) : "mapped");
    unlink("/tmp/grows");
    close(file);
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    remove_tree();
    grow();
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * MIB);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    int started = 0;
    while (started < THREADS && pthread_create(&threads[started], &attributes, touches, NULL) == 0)
        started++;
    printf("%d threads\n", started);
    if (started < THREADS)
        return 1;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    puts("joined");
    return 0;
}
