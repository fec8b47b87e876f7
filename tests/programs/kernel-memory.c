/* Memory is used up, then the kernel is asked for what it keeps itself: each call says no, and all goes on afterwards. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *answer(int error)
{
    return error == ENOMEM || error == ENOSPC || error == EMFILE ? "refused" : strerrorname_np(error);
}

/* Makes files, directories or links until the kernel refuses, and removes them. */
static void make(const char *what, int (*one)(const char *), int (*gone)(const char *))
{
    char name[64];
    int count = 0;
    for (;; count++) {
        sprintf(name, "/tmp/%s-%d", what, count);
        if (one(name))
            break;
    }
    printf("%s: %s\n", what, answer(errno));
    while (count-- > 0) {
        sprintf(name, "/tmp/%s-%d", what, count);
        if (gone(name))
            printf("%s: %s\n", name, strerrorname_np(errno));
    }
}

static int file(const char *name)
{
    int number = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
    return number < 0 ? -1 : close(number);
}

static int directory(const char *name)
{
    return mkdir(name, 0700);
}

static int symbolic(const char *name)
{
    static char target[1001];
    memset(target, 't', 1000);
    return symlink(target, name);
}

int main(int count, char **arguments)
{
    static char data[256];
    static int ends[1024][2];
    int pipes = 0;
    make("file", file, unlink);
    make("directory", directory, rmdir);
    make("link", symbolic, unlink);
    for (size_t size = 64 << 20, taken = 0; size >= 4096; size /= 2)
        while (taken < (8ul << 30) && mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
            taken += size;
    for (int reached = 0; !reached; pipes += !reached) {
        if (pipe2(ends[pipes], O_NONBLOCK)) {
            reached = 1;
            break;
        }
        while (write(ends[pipes][1], data, sizeof data) > 0) {
        }
    }
    printf("pipes: %s\n", answer(errno));
    for (int i = 0; i < pipes; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
    make("link", symbolic, unlink);
    int number = open("/tmp/last", O_CREAT | O_RDWR, 0600);
    printf("a file: %s\n", number >= 0 && write(number, "x", 1) == 1 ? "written" : answer(errno));
    puts("the kernel lives");
    return 0;
}
