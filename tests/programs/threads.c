/* build: -pthread */
/* A storm on one mutex, turns by condition variable, barrier, semaphore, time-outs, thread-local variables,
   cancellation, and more threads than there are cores, one after the other. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 5000, TURNS = 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static sem_t ended;
static long count, turn, table[2];
static __thread long own = 7;

static void *storm(void *argument)
{
    long id = (long)argument;
    own += id;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        count++;
        pthread_mutex_unlock(&lock);
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % THREADS != id)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
        pthread_rwlock_rdlock(&rw);
        long same = table[0] == table[1];
        pthread_rwlock_unlock(&rw);
        pthread_rwlock_wrlock(&rw);
        table[0] += same;
        sched_yield();
        table[1] += same;
        pthread_rwlock_unlock(&rw);
    }
    sem_post(&ended);
    return (void *)own;
}

static void *waits(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

static void *posts(void *semaphore)
{
    sem_post(semaphore);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS], other;
    long sum = 0;
    void *result;
    pthread_barrier_init(&barrier, NULL, THREADS);
    sem_init(&ended, 0, 0);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, storm, (void *)i))
            return puts("a thread is refused"), 1;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    for (int i = 0; i < THREADS; i++)
        sem_wait(&ended);
    printf("count %ld, turns %ld, own %ld, table %ld %ld\n", count, turn, sum, table[0], table[1]);

    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_nsec += 10000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    printf("condition %d\n", pthread_cond_timedwait(&changed, &lock, &at) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
    printf("semaphore %d\n", sem_timedwait(&ended, &at) == -1 && errno == ETIMEDOUT);

    pthread_create(&other, NULL, waits, NULL);
    pthread_cancel(other);
    pthread_join(other, &result);
    printf("cancelled %d\n", result == PTHREAD_CANCELED);

    for (int i = 0; i < 200; i++) {
        if (pthread_create(&other, NULL, posts, &ended))
            return puts("a later thread is refused"), 1;
        pthread_join(other, NULL);
    }
    int posted;
    sem_getvalue(&ended, &posted);
    printf("%d more\n", posted);
    return 0;
}
