/* build: -fopenmp */
/* Where each core is in the topology, as files say it, and the places that OMP_PLACES makes of that. */
#define _GNU_SOURCE
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CORES = 64 };

static void show(long core, const char *name)
{
    char path[100], line[100] = "none";
    sprintf(path, "/sys/devices/system/cpu/cpu%ld/topology/%s", core, name);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fgets(line, sizeof line, file))
            line[strcspn(line, "\n")] = 0;
        fclose(file);
    }
    printf(" %s", line);
}

int main(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    puts("core: package cluster core, cpus of core, of cluster, of package");
    for (long core = 0; core < cores; core++) {
        static const char *const names[] = {
            "physical_package_id", "cluster_id", "core_id", "core_cpus_list", "cluster_cpus_list", "package_cpus_list"};
        printf("core %ld:", core);
        for (int i = 0; i < 6; i++)
            show(core, names[i]);
        puts("");
    }
    printf("masks of core %ld:", cores - 1);
    show(cores - 1, "core_cpus");
    show(cores - 1, "cluster_cpus");
    show(cores - 1, "package_cpus");
    puts("");
    printf("old names of core %ld:", cores - 1);
    show(cores - 1, "thread_siblings_list");
    show(cores - 1, "core_siblings_list");
    puts("");

    int places = omp_get_num_places();
    printf("places: %d\n", places);
    for (int place = 0; place < places; place++) {
        int ids[CORES], count = omp_get_place_num_procs(place);
        printf("place %d:", place);
        if (count <= CORES)
            omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < count && count <= CORES; i++)
            printf(" %d", ids[i]);
        puts("");
    }
    /* A thread for each place: it may run there and nowhere else. */
    int right = 0;
#pragma omp parallel num_threads(places) proc_bind(spread) reduction(+ : right)
    {
        int ids[CORES], place = omp_get_place_num(), all = 1;
        cpu_set_t set;
        sched_getaffinity(0, sizeof set, &set);
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < omp_get_place_num_procs(place); i++)
            all &= CPU_ISSET(ids[i], &set);
        right += place == omp_get_thread_num() && all && CPU_COUNT(&set) == omp_get_place_num_procs(place)
            && CPU_ISSET(sched_getcpu(), &set);
    }
    printf("bound: %d of %d\n", right, places);
    return 0;
}
