/* build: -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls */
/* Goes down until the stack ends, where nothing catches it. */
#include <stdio.h>

__attribute__((noinline)) static int descend(int depth)
{
    volatile char frame[1000];
    frame[0] = (char)depth;
    return descend(depth + 1) + frame[0];
}

int main(void)
{
    puts("going down");
    fflush(stdout);
    return descend(0);
}
