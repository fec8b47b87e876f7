/* System calls with addresses that are not the program's to give. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define TRY(call) (errno = 0, printf(#call " = %ld, EFAULT %d\n", (long)(call), errno == EFAULT))

int main(void)
{
    /* Where nothing is, where kernels are, at the end of all addresses. */
    char *bad[] = {(char *)8, (char *)0xffff000040000000, (char *)0xffff800000002000, (char *)-4};
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int zero = open("/dev/zero", O_RDONLY);
    struct timespec *past = (struct timespec *)(page + 4096 - 8);
    mprotect(page + 4096, 4096, PROT_NONE);
    for (int i = 0; i < 4; i++) {
        TRY(write(1, bad[i], 4));
        TRY(read(zero, bad[i], 4));
        TRY(stat(bad[i], (struct stat *)page));
        TRY(fstat(1, (struct stat *)bad[i]));
        TRY(writev(1, (struct iovec *)bad[i], 1));
        TRY(nanosleep((struct timespec *)bad[i], NULL));
    }
    TRY(read(zero, page + 4090, 6));
    TRY(fstat(1, (struct stat *)(page + 4000)));
    TRY(nanosleep(past, NULL));
    mprotect(page, 4096, PROT_READ);
    TRY(read(zero, page, 6));
    return 0;
}
