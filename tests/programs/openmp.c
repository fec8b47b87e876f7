/* build: -fopenmp */
/* Work sharing, reductions, critical sections, tasks and many short parallel regions; as many threads as the run-time says. */
#include <omp.h>
#include <stdio.h>

static long fibonacci(int n)
{
    long a, b;
    if (n < 2)
        return n;
    if (n < 12)
        return fibonacci(n - 1) + fibonacci(n - 2);
#pragma omp task shared(a)
    a = fibonacci(n - 1);
#pragma omp task shared(b)
    b = fibonacci(n - 2);
#pragma omp taskwait
    return a + b;
}

int main(void)
{
    const long n = 1000000;
    double sum = 0;
    long critical = 0, tasks = 0;
    int threads = 0;
#pragma omp parallel
    {
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for reduction(+ : sum) schedule(static)
        for (long i = 1; i <= n; i++)
            sum += 1.0 / ((double)i * i);
#pragma omp for schedule(dynamic, 7)
        for (int i = 0; i < 1000; i++)
#pragma omp critical
            critical += i;
#pragma omp single
        tasks = fibonacci(20);
    }
    printf("threads %d\nsum %.6f\ncritical %ld\nfibonacci %ld\n", threads, sum, critical, tasks);
    for (int region = 0; region < 100; region++) {
        int members = 0;
#pragma omp parallel reduction(+ : members)
        members++;
        if (members != threads) {
            printf("a region had %d threads\n", members);
            return 1;
        }
    }
    puts("100 regions");
    return 0;
}
