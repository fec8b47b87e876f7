/* build: -pthread */
/* A thread ends with locks that others wait for: they get EOWNERDEAD. (Linux' emulator has no robust lists.) */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t locks[3];

static void *dies(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        pthread_mutex_lock(&locks[i]);
    usleep(2000);
    pthread_mutex_unlock(&locks[1]);
    return NULL;
}

static void *waits(void *lock)
{
    return (void *)(long)pthread_mutex_lock(lock);
}

int main(void)
{
    pthread_mutexattr_t attributes;
    pthread_t owner, waiter[3];
    void *result;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < 3; i++)
        pthread_mutex_init(&locks[i], &attributes);
    pthread_create(&owner, NULL, dies, NULL);
    usleep(500);
    for (int i = 0; i < 3; i++)
        pthread_create(&waiter[i], NULL, waits, &locks[i]);
    pthread_join(owner, NULL);
    for (int i = 0; i < 3; i++) {
        pthread_join(waiter[i], &result);
        printf("lock %d: %s\n", i, (long)result == EOWNERDEAD ? "its owner died" : result ? "?" : "taken");
    }
    return 0;
}
