// Prints what the kernel passed to it at its start, and what its clocks say, one fact a line.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static __thread int initialised = 41, zero;
static char data[70000] = "data", bss[70000];

static uint64_t counter(void) {
    uint64_t ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}

static uint64_t nanoseconds(struct timespec time) {
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

// The functions themselves, because a library may make a system call where it could call them.
typedef int clock_function(clockid_t, struct timespec *);
typedef int day_function(struct timeval *, struct timezone *);

static void *look_up(const char *name) {
    char *image = (char *)getauxval(AT_SYSINFO_EHDR);
    Elf64_Phdr *header = (void *)(image + ((Elf64_Ehdr *)image)->e_phoff);
    while (header->p_type != PT_DYNAMIC) {
        header++;
    }
    Elf64_Sym *symbols = 0;
    char *names = 0;
    uint32_t *hash = 0;
    for (Elf64_Dyn *entry = (void *)(image + header->p_vaddr); entry->d_tag; entry++) {
        void *value = image + entry->d_un.d_ptr;
        switch (entry->d_tag) {
        case DT_SYMTAB: symbols = value; break;
        case DT_STRTAB: names = value; break;
        case DT_HASH: hash = value; break;
        }
    }
    for (uint32_t symbol = 1; symbol < hash[1]; symbol++) {
        if (!strcmp(names + symbols[symbol].st_name, name)) {
            return image + symbols[symbol].st_value;
        }
    }
    return 0;
}

static void clocks(const char *who, clock_function *gettime, clock_function *getres) {
    for (clockid_t clock = 0; clock < 12; clock++) {
        struct timespec time = {-1, -1}, resolution = {-1, -1};
        uint64_t before = counter();
        int status = gettime(clock, &time);
        uint64_t after = counter();
        int resolution_status = getres(clock, &resolution);
        printf("clock %s %d %d %llu %llu %llu %d %lld\n", who, clock, status, (unsigned long long)before,
               (unsigned long long)nanoseconds(time), (unsigned long long)after, resolution_status,
               (long long)nanoseconds(resolution));
    }
}

int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        printf("argument %s\n", argv[i]);
    }
    for (char **variable = environ; *variable; variable++) {
        printf("variable %s\n", *variable);
    }
    printf("name %s\n", (char *)getauxval(AT_EXECFN));
    printf("platform %s\n", (char *)getauxval(AT_PLATFORM));
    printf("random %.16s\n", (char *)getauxval(AT_RANDOM));
    printf("page %ld\n", sysconf(_SC_PAGESIZE));
    printf("hwcap %lx %lx\n", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
    printf("users %lu %lu %lu\n", getauxval(AT_UID), getauxval(AT_GID), getauxval(AT_SECURE));
    printf("headers %.4s\n", (char *)(getauxval(AT_PHDR) - sizeof(Elf64_Ehdr)) + 1);
    printf("tls %d %d\n", initialised, zero);
    int clean = 1;
    for (size_t i = 0; i < sizeof bss; i++) {
        clean &= !bss[i];
    }
    printf("data %s %d\n", data, clean);
    memset(bss, 1, sizeof bss);
    char *heap = malloc(1000000);
    memset(heap, 1, 1000000);
    printf("main %p\n", (void *)main);

    clocks("libc", clock_gettime, clock_getres);
    if (getauxval(AT_SYSINFO_EHDR)) {
        clock_function *gettime = (clock_function *)look_up("__kernel_clock_gettime");
        clock_function *getres = (clock_function *)look_up("__kernel_clock_getres");
        day_function *day = (day_function *)look_up("__kernel_gettimeofday");
        clocks("vdso", gettime, getres);

        struct timespec time;
        printf("invalid %d %d %d\n", gettime(99, &time), gettime(-1, &time) != 0, getres(99, &time));
        printf("null %d\n", getres(CLOCK_MONOTONIC, 0));
        struct timeval now = {-1, -1};
        struct timezone zone = {-1, -1};
        int status = day(0, 0);
        uint64_t before = counter();
        status |= day(&now, &zone);
        uint64_t after = counter();
        printf("day %d %llu %llu %llu %d %d\n", status, (unsigned long long)before,
               now.tv_sec * 1000000ull + now.tv_usec, (unsigned long long)after, zone.tz_minuteswest,
               zone.tz_dsttime);
        uint64_t last = 0;
        for (int i = 0; i < 100000; i++) {
            gettime(CLOCK_MONOTONIC, &time);
            if (nanoseconds(time) < last) {
                printf("backwards\n");
            }
            last = nanoseconds(time);
        }
    }
    return 42;
}
