/* build: -static-pie -O1 -g0 -fno-omit-frame-pointer -fno-optimize-sibling-calls */
/* Reads where nothing is, three calls deep. */
#include <stdio.h>

__attribute__((noinline)) static int inner(const int *pointer)
{
    return *pointer + 1;
}

__attribute__((noinline)) static int middle(const int *pointer)
{
    return inner(pointer) + 2;
}

int main(void)
{
    puts("about to crash");
    return middle((const int *)0x123);
}
