/* build: -pthread */
/* The C library's heap under several threads: blocks of all sizes are filled, checked, grown, handed from thread to thread and
   freed by whoever has them last; and a static array of 320 MB, of which a part is used. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 6, SLOTS = 256, ROUNDS = 20000 };

struct block {
    size_t size;
    unsigned char fill, bytes[];
};

static struct block *shared[SLOTS];
static pthread_mutex_t locks[SLOTS];
static char large[320 << 20];
static long bad;
static pthread_mutex_t count = PTHREAD_MUTEX_INITIALIZER;

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static size_t any_size(uint32_t *state)
{
    uint32_t kind = next(state) % 100;
    if (kind < 80)
        return next(state) % 512 + 1;
    if (kind < 98)
        return next(state) % 16384 + 1;
    return next(state) % (400 << 10) + 1;
}

static struct block *make(uint32_t *state, struct block *old)
{
    size_t size = any_size(state);
    struct block *block = realloc(old, sizeof *block + size);
    if (!block)
        exit(3);
    block->size = size;
    block->fill = next(state);
    memset(block->bytes, block->fill, size);
    return block;
}

static int is_whole(const struct block *block)
{
    for (size_t i = 0; i < block->size; i += 61)
        if (block->bytes[i] != block->fill)
            return 0;
    return block->bytes[block->size - 1] == block->fill;
}

static void *work(void *argument)
{
    uint32_t state = (uint32_t)(long)argument + 1;
    long broken = 0;
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t slot = next(&state) % SLOTS;
        pthread_mutex_lock(&locks[slot]);
        struct block *block = shared[slot];
        shared[slot] = NULL;
        pthread_mutex_unlock(&locks[slot]);
        if (block && !is_whole(block))
            broken++;
        if (block && next(&state) % 3 == 0) {
            free(block);
            block = NULL;
        } else {
            block = make(&state, block);
        }
        pthread_mutex_lock(&locks[slot]);
        struct block *other = shared[slot];
        shared[slot] = block;
        pthread_mutex_unlock(&locks[slot]);
        free(other);
    }
    pthread_mutex_lock(&count);
    bad += broken;
    pthread_mutex_unlock(&count);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    long sum = 0;
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_init(&locks[i], NULL);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i))
            return 2;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < SLOTS; i++) {
        if (shared[i] && !is_whole(shared[i]))
            bad++;
        free(shared[i]);
    }
    printf("broken blocks: %ld\n", bad);
    for (size_t i = 0; i < sizeof large; i += 1 << 20)
        large[i] = (char)(i >> 20);
    for (size_t i = 0; i < sizeof large; i += 1 << 19)
        sum += large[i];
    printf("sum over a large array: %ld\n", sum);
    void *aligned[3];
    for (int i = 0; i < 3; i++)
        if (posix_memalign(&aligned[i], (size_t)4096 << (4 * i), 10000))
            return 4;
    printf("aligned: %d\n", (uintptr_t)aligned[0] % 4096 == 0 && (uintptr_t)aligned[2] % (1 << 20) == 0);
    printf("too much: %d\n", malloc((size_t)1 << 46) == NULL);
    return 0;
}
