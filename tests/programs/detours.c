/* How quiet the core is, where the counter counts instructions: a fixed work of 10^9 instructions, and selfish-detour for
   5 * 10^9 ticks: rounds of 1000 instructions, each of which should take as long as the shortest. */
#include <stdio.h>

enum { ROUND = 1000, TOLERATED = 20 };

static unsigned long now(void)
{
    unsigned long ticks;
    __asm__ volatile("isb\n mrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
    return ticks;
}

/* Executes as many instructions, an even number. */
static void work(unsigned long instructions)
{
    unsigned long rounds = instructions / 2;
    __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(rounds) : : "cc");
}

int main(void)
{
    unsigned long frequency, start, end, last, rounds = 0, detours = 0, shortest = -1UL, longest = 0;
    const unsigned long billion = 1000000000;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
    printf("a second has %lu ticks\n", frequency);
    start = now();
    work(billion);
    end = now();
    long more = (long)(end - start - billion);
    printf("10^9 instructions took %ld more: %s\n", more, more >= 0 && more <= 10 ? "nothing else" : "something else");
    for (start = last = now(); last - start < 5 * billion; rounds++) {
        work(ROUND);
        unsigned long here = now(), took = here - last;
        shortest = took < shortest ? took : shortest;
        longest = took > longest ? took : longest;
        detours += took > shortest + TOLERATED;
        last = here;
    }
    printf("%lu rounds, shortest %lu, longest %lu\n", rounds, shortest, longest);
    printf("period of 5 seconds: %d\n", last - start >= 5 * frequency && last - start < 5 * frequency + 2 * ROUND);
    printf("detours: %lu\n", detours);
    return 0;
}
