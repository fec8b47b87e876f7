/* build: -pthread */
/* Signals for the process: who takes them, when, and what happens if nobody does at first. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static volatile int handled_by;
static pthread_t first;

static void on_usr1(int number) { handled_by = pthread_equal(pthread_self(), first) ? 1 : 2; }

static sigset_t set_of(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  return set;
}

static void *wait_for_term(void *result) {
  sigset_t set = set_of(SIGTERM);
  pthread_barrier_wait(&barrier);
  sigwait(&set, result);
  return 0;
}

/* Unblocks a signal only when signalled to. */
static void *take_usr1(void *unused) {
  sigset_t set = set_of(SIGUSR1);
  pthread_barrier_wait(&barrier);
  pthread_sigmask(SIG_UNBLOCK, &set, 0);
  return 0;
}

static void *interrupt(void *target) {
  usleep(20000);
  pthread_kill(*(pthread_t *)target, SIGUSR1);
  return 0;
}

int main(void) {
  pthread_t thread;
  sigset_t all, set;
  siginfo_t info;
  int number = 0;
  first = pthread_self();
  pthread_barrier_init(&barrier, 0, 2);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_usr1}, 0);
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, 0);

  /* A thread waits for it; all others block it. */
  pthread_create(&thread, 0, wait_for_term, &number);
  pthread_barrier_wait(&barrier);
  usleep(20000);
  kill(getpid(), SIGTERM);
  pthread_join(thread, 0);
  printf("waiting thread: %d\n", number == SIGTERM);

  /* Nobody waits yet: it is pending for the process, once. */
  kill(getpid(), SIGTERM);
  kill(getpid(), SIGTERM);
  sigpending(&set);
  printf("pending: %d\n", sigismember(&set, SIGTERM));
  number = 0;
  pthread_create(&thread, 0, wait_for_term, &number);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, 0);
  sigpending(&set);
  printf("taken later: %d, still pending: %d\n", number == SIGTERM, sigismember(&set, SIGTERM));

  /* Nobody takes it until another thread unblocks it. */
  kill(getpid(), SIGUSR1);
  pthread_create(&thread, 0, take_usr1, 0);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, 0);
  printf("handled by the thread that unblocks it: %d\n", handled_by == 2);

  /* Values of a queue come in order, to whoever waits for them. */
  for (int i = 0; i < 3; i++) sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 10 + i});
  set = set_of(SIGRTMIN);
  for (int i = 0; i < 3; i++) {
    sigwaitinfo(&set, &info);
    printf("value %d, code %d\n", info.si_value.sival_int, info.si_code);
  }
  errno = 0;
  int result = sigtimedwait(&set, &info, &(struct timespec){0, 1000000});
  printf("timeout: %d %s\n", result, strerror(errno));

  /* A handler for another signal ends the wait. */
  sigset_t usr1 = set_of(SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &usr1, 0);
  handled_by = 0;
  pthread_create(&thread, 0, interrupt, &first);
  errno = 0;
  result = sigwaitinfo(&set, &info);
  printf("interrupted: %d %s, handled %d\n", result, strerror(errno), handled_by);
  pthread_join(thread, 0);

  /* What is ignored is not kept, unless it is blocked. */
  signal(SIGUSR2, SIG_IGN);
  kill(getpid(), SIGUSR2);
  sigpending(&set);
  printf("ignored and blocked is pending: %d\n", sigismember(&set, SIGUSR2));
  return 0;
}
