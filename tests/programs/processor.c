/* build: -fopenmp */
/* Which processor it is, and where its cores are: identification registers, read and in files, places of OpenMP, the time of day. */
#define _GNU_SOURCE
#include <omp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

static sigjmp_buf back;

static void undefined(int number) { siglongjmp(back, 1); }

static unsigned long in_file(const char *path) {
    unsigned long value = 0;
    FILE *file = fopen(path, "r");
    if (file) {
        fscanf(file, "%lx", &value);
        fclose(file);
    }
    return value;
}

static void show(const char *path) {
    char line[100] = "none\n";
    FILE *file = fopen(path, "r");
    if (file) {
        fgets(line, sizeof line, file);
        fclose(file);
    }
    printf("%s: %s", strrchr(path, '/') + 1, line);
}

#define READ(register)                                           \
    ({                                                           \
        unsigned long value;                                     \
        asm volatile("mrs %0, " #register : "=r"(value));        \
        value;                                                   \
    })

int main(void) {
    unsigned long midr = READ(midr_el1);
    printf("capability: %d\n", !!(getauxval(AT_HWCAP) & HWCAP_CPUID));
    printf("file: %d\n", midr && midr == in_file("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1"));
    printf("other core: %d\n", midr == in_file("/sys/devices/system/cpu/cpu3/regs/identification/midr_el1"));
    printf("affinity: %#lx, revision: %#lx\n", READ(mpidr_el1), READ(revidr_el1));
    unsigned long isar0 = READ(id_aa64isar0_el1), pfr0 = READ(id_aa64pfr0_el1), isar1 = READ(id_aa64isar1_el1);
    printf("atomics: %d\n", (isar0 >> 20 & 15) >= 2 == !!(getauxval(AT_HWCAP) & HWCAP_ATOMICS));
    printf("hidden: %#lx %#lx %#lx\n", pfr0 >> 32 & 15, isar1 >> 4 & 0xff, READ(id_aa64pfr1_el1) & 15);
    printf("unknown: %#lx\n", READ(s3_0_c0_c7_7));
    signal(SIGILL, undefined);
    if (sigsetjmp(back, 1) == 0) printf("not for programs: %#lx\n", READ(sctlr_el1));
    else puts("not for programs: SIGILL");
    char name[40], value[40], line[2000];
    unsigned implementer = 0, part = 0, cores = 0;
    FILE *info = fopen("/proc/cpuinfo", "r");
    while (info && fgets(line, sizeof line, info)) {
        sscanf(line, "CPU implementer : %x", &implementer);
        sscanf(line, "CPU part : %x", &part);
        cores += !strncmp(line, "processor", 9);
    }
    printf("cpuinfo: %d, of %u cores\n", implementer == (midr >> 24 & 0xff) && part == (midr >> 4 & 0xfff), cores);

    show("/sys/devices/system/cpu/cpu2/topology/core_id");
    show("/sys/devices/system/cpu/cpu2/topology/physical_package_id");
    show("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list");
    show("/sys/devices/system/cpu/cpu2/topology/thread_siblings");
    show("/sys/devices/system/cpu/cpu2/topology/core_siblings_list");
    show("/sys/devices/system/cpu/cpu2/topology/core_siblings");
    show("/sys/devices/system/cpu/cpu4/topology/core_id");
    show("/sys/devices/system/node/online");

    int on[4] = {0}, bound = 0;
    printf("places: %d\n", omp_get_num_places());
#pragma omp parallel
    {
        cpu_set_t set;
        sched_getaffinity(0, sizeof set, &set);
#pragma omp critical
        {
            bound += CPU_COUNT(&set) == 1;
            on[sched_getcpu() & 3]++;
        }
    }
    printf("bound: %d, on %d %d %d %d\n", bound, on[0], on[1], on[2], on[3]);
    printf("after 2025: %d\n", time(0) > 1735689600);
    return 0;
}
