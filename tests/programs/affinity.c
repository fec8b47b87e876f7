/* build: -pthread */
/* Threads go where they are sent. With a core of their own each: the first argument says how many there are. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *here(void *argument)
{
    long core = (long)argument;
    double value = core + 0.5;
    cpu_set_t set;
    for (int round = 0; round < 20; round++) {
        CPU_ZERO(&set);
        CPU_SET(core, &set);
        if (sched_setaffinity(0, sizeof set, &set))
            return (void *)1;
        if (sched_getcpu() != core)
            return (void *)2;
        value = value * 2 - core - 0.5;
    }
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    return (void *)(long)(CPU_COUNT(&set) != 1 || value != core + 0.5);
}

int main(int count, char **arguments)
{
    long cores = count > 1 ? atol(arguments[1]) : 1;
    printf("cores %d\n", sysconf(_SC_NPROCESSORS_ONLN) == cores);
    for (long core = 0; core < cores; core++) {
        pthread_attr_t attributes;
        pthread_t thread;
        cpu_set_t set;
        void *wrong;
        pthread_attr_init(&attributes);
        CPU_ZERO(&set);
        CPU_SET(cores - 1 - core, &set);
        pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
        if (pthread_create(&thread, &attributes, here, (void *)core))
            return puts("refused"), 1;
        pthread_join(thread, &wrong);
        printf("core %ld: %ld\n", core, (long)wrong);
    }
    cpu_set_t none;
    CPU_ZERO(&none);
    printf("nowhere %d\n", sched_setaffinity(0, sizeof none, &none));
    here(0);
    printf("main on %d\n", sched_getcpu());
    return 0;
}
