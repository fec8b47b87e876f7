/* Files, directories, links, descriptors, pipes and devices. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRY(call) (errno = 0, printf(#call " = %ld, %s\n", (long)(call), strerror(errno)))

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(void)
{
    char text[64] = "", name[] = "/tmp/margay-files-XXXXXX";
    struct stat stat;
    char *names[16];
    int count = 0;
    setlinebuf(stdout);
    umask(022);
    if (!mkdtemp(name) || chdir(name))
        return 1;
    int file = open("file", O_CREAT | O_EXCL | O_RDWR, 0666);
    TRY(write(file, "hello, world", 12));
    TRY(pread(file, text, 5, 7));
    puts(text);
    TRY(lseek(file, 100, SEEK_SET));
    TRY(write(file, "!", 1));
    TRY(fstat(file, &stat));
    printf("size %ld, mode %o\n", (long)stat.st_size, stat.st_mode);
    TRY(ftruncate(file, 5));
    TRY(lseek(file, 0, SEEK_END));
    TRY(lseek(file, -6, SEEK_END));
    TRY(open("file", O_CREAT | O_EXCL | O_RDWR, 0666));
    TRY(open("file/x", O_RDONLY));
    TRY(open("nothing", O_RDONLY));
    TRY(open(".", O_RDWR));
    TRY(open("file", O_RDONLY | O_DIRECTORY));
    TRY(symlink("file", "link"));
    TRY(readlink("link", text, sizeof text));
    TRY(lstat("link", &stat));
    printf("link %d\n", S_ISLNK(stat.st_mode));
    TRY(mkdir("sub", 0777));
    TRY(mkdir("sub", 0777));
    TRY(rename("file", "sub/renamed"));
    TRY(stat.st_size = access("link", F_OK));
    TRY(rmdir("sub"));
    TRY(unlink("sub"));
    int append = open("sub/renamed", O_WRONLY | O_APPEND);
    TRY(write(append, " again", 6));
    TRY(read(append, text, 1));
    TRY(pread(file, text, 11, 0));
    printf("%.11s\n", text);
    DIR *directory = opendir(".");
    for (struct dirent *entry; (entry = readdir(directory)) && count < 16;)
        names[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    for (int i = 0; i < count; i++)
        puts(names[i]);
    TRY(unlink("sub/renamed"));
    TRY(read(file, text, 1));
    TRY(close(file));
    TRY(close(file));
    TRY(unlink("link"));
    TRY(rmdir("sub"));

    int ends[2];
    TRY(pipe2(ends, O_NONBLOCK));
    TRY(read(ends[0], text, 1));
    struct pollfd poll_for = {.fd = ends[0], .events = POLLIN};
    TRY(poll(&poll_for, 1, 1));
    TRY(write(ends[1], "through", 7));
    TRY(poll(&poll_for, 1, -1));
    TRY(read(ends[0], text, sizeof text));
    TRY(close(ends[1]));
    TRY(read(ends[0], text, 1));
    TRY(poll(&poll_for, 1, -1));
    printf("hung up %d\n", !!(poll_for.revents & POLLHUP));
    TRY(fcntl(ends[0], F_GETFL));
    TRY(fcntl(ends[0], F_GETFD));
    TRY(fcntl(ends[0], F_DUPFD, 100));
    TRY(dup2(1, 50));
    TRY(write(50, "by another number\n", 18));
    TRY(dup2(77, 78));
    TRY(lseek(ends[0], 0, SEEK_SET));

    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY), full = open("/dev/full", O_WRONLY);
    TRY(write(null, text, 10));
    TRY(read(null, text, 10));
    memset(text, 1, sizeof text);
    TRY(read(zero, text, 10));
    printf("zero %d %d\n", text[9], text[10]);
    TRY(write(full, text, 10));
    TRY(chdir("/"));
    TRY(rmdir(name));
    return 0;
}
