/* A large static array, a heap under stress, reallocation, lazy mappings, protection, moved mappings. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static double large[8 << 20];

static unsigned next(void)
{
    static unsigned long state = 1;
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return state >> 33;
}

int main(void)
{
    double sum = 0;
    for (long i = 0; i < 8 << 20; i++)
        large[i] = i;
    for (long i = 0; i < 8 << 20; i += 4096)
        sum += large[i];
    printf("sum %.0f\n", sum);

    static unsigned char *block[500];
    static size_t size[500];
    unsigned long check = 0;
    for (int i = 0; i < 40000; i++) {
        int k = next() % 500;
        if (block[k]) {
            check += block[k][0] + block[k][size[k] - 1];
            free(block[k]);
            block[k] = NULL;
        } else {
            size[k] = 1 + next() % (k % 10 ? 3000 : 300000);
            block[k] = malloc(size[k]);
            memset(block[k], k, size[k]);
        }
    }
    printf("check %lu\n", check);

    size_t bytes = 16;
    char *grown = malloc(bytes);
    strcpy(grown, "kept");
    while (bytes < 64u << 20) {
        bytes *= 2;
        grown = realloc(grown, bytes);
        grown[bytes - 1] = 1;
    }
    printf("%s\n", grown);
    free(grown);

    const size_t huge = 64ul << 30;
    char *lazy = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    lazy[huge / 2] = 5;
    printf("lazy %d %d %d\n", lazy[0], lazy[huge / 2], munmap(lazy, huge));

    char *pages = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 8 << 20; i += 4096)
        pages[i] = i >> 12;
    printf("hole %d\n", munmap(pages + (3 << 20) + 4096, 4096));
    printf("reserved %d\n", mprotect(pages, 4096, PROT_NONE));
    errno = 0;
    printf("holes cannot be protected %d %d\n", mprotect(pages, 8 << 20, PROT_READ), errno == ENOMEM);
    printf("kept %d %d\n", pages[3 << 20], pages[(3 << 20) + 8192]);
    mprotect(pages, 4096, PROT_READ);
    printf("and kept behind a guard %d\n", pages[0]);
    char *moved = mremap(pages + (4 << 20), 1 << 20, 16 << 20, MREMAP_MAYMOVE);
    printf("moved %d %d\n", moved[4096] == (char)1025, moved[(16 << 20) - 1]);
    madvise(moved, 1 << 20, MADV_DONTNEED);
    printf("forgotten %d\n", moved[4096]);
    char *fixed = mmap(moved + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("replaced %d %d\n", fixed == moved + 4096, fixed[5]);
    void *start = sbrk(0);
    printf("break %d\n", sbrk(1 << 20) == start && (char *)sbrk(0) - (char *)start == 1 << 20);
    return 0;
}
