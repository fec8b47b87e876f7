/* build: -pthread */
/* Takes all memory, in every way there is. The kernel says no, and has enough for itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void no_memory(int number)
{
    siglongjmp(back, number);
}

static void *waits(void *unused)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return unused;
}

int main(void)
{
    enum { MOST = 4096 };
    static void *blocks[MOST];
    static size_t sizes[MOST];
    static pthread_t threads[2000];
    int count = 0, started = 0;
    for (size_t size = 64 << 20; size >= 4096; size /= 2)
        while (count < MOST) {
            void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (block == MAP_FAILED)
                break;
            memset(block, 1, size);
            blocks[count] = block;
            sizes[count++] = size;
        }
    puts("mapped until there was no more");
    for (int i = 0; i < count; i++)
        munmap(blocks[i], sizes[i]);

    const size_t huge = 64ul << 30;
    char *lazy = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    signal(SIGBUS, no_memory);
    int number = sigsetjmp(back, 1);
    if (number == 0)
        for (size_t at = 0; at < huge; at += 4096)
            lazy[at] = 1;
    printf("touched until there was no more: %s\n", number == SIGBUS ? "SIGBUS" : "?");
    munmap(lazy, huge);

    int file = open("/tmp/large", O_CREAT | O_RDWR, 0600);
    long written = 0, step;
    void *piece = calloc(1, 1 << 20);
    while ((step = write(file, piece, 1 << 20)) > 0)
        written += step;
    printf("wrote until there was no more: %d\n", written > 10 << 20);
    ftruncate(file, 0);
    close(file);
    unlink("/tmp/large");

    pthread_mutex_lock(&gate);
    while (started < 2000 && pthread_create(&threads[started], NULL, waits, NULL) == 0)
        started++;
    printf("threads until there were no more%s\n", started > 20 && started < 2000 ? "" : "?");
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    char *after = malloc(50 << 20);
    memset(after, 1, 50 << 20);
    puts("and all is well");
    return 0;
}
