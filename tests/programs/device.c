/* /dev/margay as the kernel has it: who may open it, and what it says to requests that make no sense. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define M(direction, number, size) ((unsigned)(direction) << 30 | (size) << 16 | 'M' << 8 | (number))

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static const char *outcome(int result)
{
    return result < 0 ? strerror(errno) : "done";
}

int main(int count, char **arguments)
{
    int device = open("/dev/margay", O_RDWR | O_CLOEXEC);
    printf("%s: %s\n", count > 1 ? "a child" : "the first", outcome(device));
    if (device < 0)
        return count > 1 ? 0 : 1;
    printf("twice: %s\n", outcome(open("/dev/margay", O_RDWR)));
    char *child[] = {"device", "child", NULL};
    pid_t id;
    posix_spawn(&id, "/proc/self/exe", NULL, NULL, child, NULL);
    waitpid(id, NULL, 0);

    uint32_t version = 0;
    printf("version: %s", outcome(ioctl(device, M(2, 0, 4), &version)));
    printf(" %u\n", version);
    char room[512] = {0};
    uint32_t index = 99;
    memcpy(room, &index, 4);
    printf("no such VM: %s\n", outcome(ioctl(device, M(3, 1, 280), room)));
    printf("no such request: %s\n", outcome(ioctl(device, M(3, 99, 8), room)));
    printf("nowhere: %s\n", outcome(ioctl(device, M(3, 1, 280), (void *)8)));
    uint16_t nobody[4] = {77, 0, 0, 0}, primary[4] = {1, 0, 0, 0}, hypervisor[4] = {0, 0, 0, 0};
    printf("start nobody: %s\n", outcome(ioctl(device, M(1, 16, 8), nobody)));
    printf("start the primary: %s\n", outcome(ioctl(device, M(1, 16, 8), primary)));
    printf("stop the hypervisor: %s\n", outcome(ioctl(device, M(1, 17, 8), hypervisor)));
    struct pollfd wait = {device, POLLIN, 0};
    printf("events: %d\n", poll(&wait, 1, 10));
    fcntl(device, F_SETFL, O_NONBLOCK);
    printf("nothing to read: %s\n", outcome(read(device, room, sizeof room)));
    printf("too small: %s\n", outcome(read(device, room, 15)));
    printf("written: %s\n", outcome(write(device, room, 16)));

    /* All requests, with anything in their structures, but for what would be done. */
    int refused = 0;
    for (int i = 0; i < 20000; i++) {
        static const unsigned requests[] = {M(3, 1, 280), M(3, 2, 64), M(3, 3, 24), M(3, 4, 40), M(1, 16, 8), M(1, 17, 8),
                                            M(1, 18, 8),  M(1, 19, 8), M(1, 20, 8), M(1, 21, 32)};
        for (int word = 0; word < 40; word++)
            ((uint64_t *)room)[word] = next() % 3 ? next() : next() % 4;
        unsigned request = next() % 8 ? requests[next() % 10] : (unsigned)next();
        void *at = next() % 8 ? room : (void *)next();
        refused += ioctl(device, request, at) < 0;
    }
    printf("%s\n", refused > 10000 ? "most were refused" : "few were refused?");
    close(device);
    device = open("/dev/margay", O_RDWR);
    printf("again: %s\n", outcome(device));
    return 0;
}
