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

int main(void)
{
    static long before[CORES], after[CORES];
    static volatile double results[CORES * 16];
    int cores = -1, worked = 0;
    long interrupts = 0;
#pragma omp parallel reduction(+ : worked)
    {
        double value = omp_get_thread_num();
        /* All threads are up, and spin in the barrier. */
#pragma omp barrier
#pragma omp master
        cores = read_counts(before);
#pragma omp barrier
        for (long i = 0; i < 30000000; i++)
            value = value * 0.999999 + 0.5;
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
