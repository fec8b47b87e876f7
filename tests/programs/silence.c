/* build: -fopenmp */
/* Each thread has its core to itself and works: no core takes an interrupt meanwhile. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { CORES = 16 };

/* Interrupts that each core has taken so far. */
static int read_counts(long *counts)
{
    static char line[1024];
    FILE *file = fopen("/proc/interrupts", "r");
    int found = 0, used;
    if (!file || !fgets(line, sizeof line, file) || !fgets(line, sizeof line, file))
        return -1;
    fclose(file);
    char *at = strchr(line, ':') + 1;
    while (found < CORES && sscanf(at, "%ld%n", &counts[found], &used) == 1) {
        at += used;
        found++;
    }
    return found;
}

static double work(double value, long rounds)
{
    for (long i = 0; i < rounds; i++)
        value = value * 0.999999 + 0.5;
    return value;
}

int main(void)
{
    static long before[CORES], after[CORES];
    static volatile double results[CORES * 16];
    static int quiet;
    int cores = -1, worked = 0;
    long interrupts = 0;
#pragma omp parallel reduction(+ : worked)
    {
        double value = omp_get_thread_num();
        /* A core may still have to take the interrupt that started its thread: the thread may have been found before it came. And the
           kernel's own task may have a turn to finish. Both are over once a long round has passed in silence. */
        for (int round = 0; round < 20 && !quiet; round++) {
#pragma omp barrier
#pragma omp master
            cores = read_counts(before);
#pragma omp barrier
            value = work(value, 10000000);
#pragma omp barrier
#pragma omp master
            quiet = read_counts(after) == cores && !memcmp(before, after, sizeof before);
#pragma omp barrier
        }
#pragma omp barrier
#pragma omp master
        cores = read_counts(before);
#pragma omp barrier
        value = work(value, 30000000);
        results[omp_get_thread_num() * 16] = value;
        worked++;
#pragma omp barrier
#pragma omp master
        read_counts(after);
#pragma omp barrier
    }
    for (int core = 0; core < cores; core++)
        interrupts += after[core] - before[core];
    printf("%d threads worked\n", worked);
    if (interrupts && worked < 3 && cores == 1)
        puts("some interrupts");
    else
        printf("%ld interrupts\n", interrupts);
    return 0;
}
