/* build: musl */
/* Arguments, environment and auxiliary vector, with musl. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int main(int count, char **arguments)
{
    struct utsname system;
    struct timespec now, later;
    unsigned char *random = (unsigned char *)getauxval(AT_RANDOM);
    int bits = 0;
    for (int i = 0; i < count; i++)
        printf("argument %s\n", arguments[i]);
    for (char **variable = environ; *variable; variable++)
        if (strncmp(*variable, "TEST_", 5) == 0)
            printf("variable %s\n", *variable);
    printf("page %lu, ticks %lu\n", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK));
    printf("user %d %d\n", getuid() == getauxval(AT_UID), getgid() == getauxval(AT_GID));
    for (int i = 0; i < 16; i++)
        bits += __builtin_popcount(random[i]);
    printf("random %d\n", bits > 24 && bits < 104);
    printf("platform %s\n", (char *)getauxval(AT_PLATFORM));
    printf("floating point and SIMD %lu\n", getauxval(AT_HWCAP) & 3);
    uname(&system);
    printf("%s %s\n", system.sysname, system.machine);
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (volatile int i = 0; i < 100000; i++)
        ;
    clock_gettime(CLOCK_MONOTONIC, &later);
    long ns = (later.tv_sec - now.tv_sec) * 1000000000 + later.tv_nsec - now.tv_nsec;
    printf("time goes on %d\n", ns > 0 && ns < 1000000000);
    printf("home %s\n", getenv("HOME"));
    return 42;
}
