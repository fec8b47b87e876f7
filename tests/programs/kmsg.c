/* build: -pthread */
/* The kernel's log, by /dev/kmsg and by syslog(2): records in order, each reader at its own place, waiting, what is lost when
   the ring has gone round; what a program says in it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

static char line[2048];
static char all[1 << 17];
static int out;

static void say(const char *text)
{
    if (write(out, text, strlen(text)) != (ssize_t)strlen(text))
        printf("cannot say %s\n", text);
}

/* The next record: its number, or -errno. */
static long next(int log, unsigned *level, unsigned long *time)
{
    long sequence;
    ssize_t size = read(log, line, sizeof line - 1);
    if (size < 0)
        return -errno;
    line[size] = 0;
    if (sscanf(line, "%u,%ld,%lu,-;", level, &sequence, time) != 3 || line[size - 1] != '\n')
        printf("no record: %s\n", line);
    line[size - 1] = 0;
    return sequence;
}

static const char *text(void)
{
    return strchr(line, ';') + 1;
}

static void *later(void *what)
{
    struct timespec pause = {0, 3000000};
    nanosleep(&pause, NULL);
    say(what);
    return NULL;
}

int main(void)
{
    unsigned level;
    unsigned long time, before = 0;
    long sequence, expected = 0;
    int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), second = open("/dev/kmsg", O_RDONLY);
    pthread_t thread;
    out = open("/dev/kmsg", O_WRONLY);
    setvbuf(stdout, NULL, _IOLBF, 0);
    while ((sequence = next(log, &level, &time)) >= 0) {
        if (sequence != expected++ || time < before)
            printf("record %ld of %lu us comes after %lu us\n", sequence, time, before);
        if (sequence == 0)
            printf("first, level %u: %.10s\n", level, text());
        before = time;
    }
    printf("then %ld\n", sequence);
    say("<3>a program's error\n");
    printf("record %d", next(log, &level, &time) == expected);
    printf(", level %u: %s\n", level, text());
    say("without a level, \\ and \001");
    next(log, &level, &time);
    printf("level %u: %s\n", level, text());
    printf("small %zd, %d\n", read(second, line, 10), errno == EINVAL);
    printf("the second begins with %ld\n", next(second, &level, &time));
    printf("to the end %ld, then %ld\n", (long)lseek(log, 0, SEEK_END), next(log, &level, &time));
    printf("elsewhere %ld, %d\n", (long)lseek(log, 5, SEEK_SET), errno == ESPIPE);

    lseek(second, 0, SEEK_END);
    pthread_create(&thread, NULL, later, "<7>after a while");
    next(second, &level, &time);
    printf("waited for: %s\n", text());
    pthread_join(thread, NULL);
    struct pollfd poll_of = {.fd = second, .events = POLLIN};
    printf("poll %d", poll(&poll_of, 1, 0));
    pthread_create(&thread, NULL, later, "<7>and again");
    printf(", then %d with %d\n", poll(&poll_of, 1, 10000), poll_of.revents);
    pthread_join(thread, NULL);

    lseek(log, 0, SEEK_SET);
    for (int i = 0; i < 2000; i++) {
        snprintf(line, sizeof line, "<7>line %d of many, which the console does not show, and the ring does not keep for ever", i);
        say(line);
    }
    poll_of.fd = log;
    poll(&poll_of, 1, 0);
    printf("overrun: poll says %d, read says %ld\n", poll_of.revents, next(log, &level, &time));
    sequence = next(log, &level, &time);
    printf("the oldest is later: %d\n", sequence > expected);
    for (expected = sequence + 1; (sequence = next(log, &level, &time)) >= 0; expected++)
        if (sequence != expected)
            printf("record %ld, not %ld\n", sequence, expected);
    printf("then %ld\n", sequence);

    int size = klogctl(10, NULL, 0);
    printf("buffer %d\n", size);
    int bytes = klogctl(3, all, sizeof all - 1);
    printf("all of it: %d\n", bytes > size / 2 && all[0] == '<' && bytes == klogctl(9, NULL, 0));
    bytes = klogctl(3, all, 300);
    all[bytes] = 0;
    printf("the end of it: %d, %.3s, %d\n", bytes > 100 && bytes <= 300, all, strstr(all, "line 1999") != NULL);
    bytes = klogctl(2, all, 300);
    printf("read %d, and less is left: %d\n", bytes > 100 && bytes <= 300, klogctl(9, NULL, 0) > size / 2);
    printf("forgotten %d", klogctl(5, NULL, 0));
    printf(", then %d\n", klogctl(3, all, sizeof all));
    klogctl(6, NULL, 0);
    say("<3>not for the console\n");
    klogctl(7, NULL, 0);
    klogctl(8, NULL, 4);
    say("<4>not urgent enough\n");
    say("<3>urgent\n");
    bytes = klogctl(4, all, sizeof all);
    all[bytes > 0 ? bytes : 0] = 0;
    int lines = 0;
    for (char *at = all; (at = strchr(at, '\n')); at++)
        lines++;
    printf("kept %d lines, one of them: %d, then %d\n", lines, strstr(all, "] not for the console\n") != NULL,
           klogctl(4, all, sizeof all));
    lseek(log, 0, SEEK_DATA);
    printf("nothing new %ld\n", next(log, &level, &time));
    printf("nonsense %d, %d\n", klogctl(11, NULL, 0), klogctl(8, NULL, 9));
    return 0;
}
