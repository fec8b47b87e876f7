/* The time of day: seconds since 1970 at boot, the first argument, and what the monotonic clock says, which begins there. The second
   argument: how many seconds more it may be, because a real-time clock has counted before. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long epoch, slack, before;

static long long monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Whether a clock that counts in steps of `unit` nanoseconds has been read between `before` and now. A real-time clock counts seconds. */
static void check(const char *name, long long seconds, long long nanoseconds, long long unit)
{
    long long since = (seconds - epoch) * 1000000000LL + nanoseconds, after = monotonic();
    int right = since + unit + (slack ? 1000000000 : 0) > before && since <= after + slack * 1000000000LL;
    printf("%s: %d\n", name, right);
    if (!right)
        printf("%lld seconds, %lld ns since boot, not in %lld to %lld\n", seconds, since, before, after);
}

int main(int count, char **arguments)
{
    struct timespec now;
    struct timeval day;
    struct stat file;
    if (count != 3)
        return 2;
    epoch = atoll(arguments[1]);
    slack = atoll(arguments[2]);
    before = monotonic();
    clock_gettime(CLOCK_REALTIME, &now);
    check("clock_gettime", now.tv_sec, now.tv_nsec, 1);
    before = monotonic();
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    check("system call", now.tv_sec, now.tv_nsec, 1);
    before = monotonic();
    gettimeofday(&day, NULL);
    check("gettimeofday", day.tv_sec, day.tv_usec * 1000, 1000);
    before = monotonic();
    check("time", time(NULL), 0, 1000000000);
    before = monotonic();
    int descriptor = open("/tmp/now", O_CREAT | O_WRONLY, 0600);
    write(descriptor, "x", 1);
    close(descriptor);
    stat("/tmp/now", &file);
    check("st_mtime", file.st_mtim.tv_sec, file.st_mtim.tv_nsec, 1000000000);
    time_t seconds = epoch;
    struct tm *date = gmtime(&seconds);
    printf("year at boot: %d\n", date->tm_year + 1900);
    return 0;
}
