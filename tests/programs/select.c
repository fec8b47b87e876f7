/* build: -pthread */
/* Waiting for descriptors and for time: pselect6 and ppoll, as C libraries call them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int handled;
static int ends[2];
static pthread_t first;

static void on_signal(int number) { handled++; }

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *write_later(void *unused) {
  usleep(30000);
  write(ends[1], "x", 1);
  return 0;
}

static void *signal_later(void *unused) {
  usleep(30000);
  pthread_kill(first, SIGUSR1);
  return 0;
}

static void show(const char *what, int result) { printf("%s: %d %s\n", what, result, result < 0 ? strerror(errno) : ""); }

int main(void) {
  fd_set in, out;
  char byte;
  pthread_t thread;
  first = pthread_self();
  struct timeval time = {0, 50000};
  double start = seconds();
  show("a sleep", select(0, 0, 0, 0, &time));
  printf("long enough: %d, nothing left: %d\n", seconds() - start >= 0.05, time.tv_sec == 0 && time.tv_usec == 0);

  pipe(ends);
  FD_ZERO(&in); FD_SET(ends[0], &in);
  time = (struct timeval){0, 1000};
  show("an empty pipe", select(ends[0] + 1, &in, 0, 0, &time));
  printf("its bit: %d\n", FD_ISSET(ends[0], &in));
  FD_ZERO(&in); FD_SET(ends[0], &in); FD_ZERO(&out); FD_SET(ends[1], &out);
  show("a writable one", select(ends[1] + 1, &in, &out, 0, 0));
  printf("bits: %d %d\n", FD_ISSET(ends[0], &in), FD_ISSET(ends[1], &out));
  pthread_create(&thread, 0, write_later, 0);
  FD_ZERO(&in); FD_SET(ends[0], &in); FD_SET(0, &in);
  int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  show("a readable device among them", select(ends[0] + 1, &in, 0, 0, 0));
  printf("bits: %d %d\n", FD_ISSET(0, &in), FD_ISSET(ends[0], &in));
  FD_ZERO(&in); FD_SET(ends[0], &in);
  time = (struct timeval){10, 0};
  show("data that comes", select(ends[0] + 1, &in, 0, 0, &time));
  printf("time is left: %d\n", time.tv_sec >= 5 && time.tv_sec < 10);
  pthread_join(thread, 0);
  read(ends[0], &byte, 1);
  FD_ZERO(&in); FD_SET(30, &in);
  show("a closed descriptor", select(31, &in, 0, 0, 0));
  show("a negative count", select(-1, 0, 0, 0, 0));
  show("a mask of a wrong size", syscall(SYS_pselect6, 0, 0, 0, 0, &(struct timespec){0}, (long[]){(long)&in, 4}));

  /* A signal that is blocked, but for the wait. */
  sigset_t mask, none;
  sigemptyset(&none);
  sigemptyset(&mask), sigaddset(&mask, SIGUSR1);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, 0);
  sigprocmask(SIG_BLOCK, &mask, 0);
  raise(SIGUSR1);
  printf("handled: %d\n", handled);
  show("pselect", pselect(0, 0, 0, 0, &(struct timespec){5, 0}, &none));
  printf("handled: %d\n", handled);
  sigprocmask(SIG_SETMASK, 0, &mask);
  printf("blocked again: %d\n", sigismember(&mask, SIGUSR1));
  pthread_create(&thread, 0, signal_later, 0);
  struct pollfd poll[2] = {{.fd = ends[0], .events = POLLIN | POLLRDNORM}, {.fd = -1, .events = POLLIN}};
  show("ppoll", ppoll(poll, 2, &(struct timespec){5, 0}, &none));
  printf("handled: %d\n", handled);
  pthread_join(thread, 0);
  raise(SIGUSR1);
  show("a wait without the signal", ppoll(poll, 2, &(struct timespec){0, 1000000}, 0));
  printf("handled: %d\n", handled);
  show("the mask is not used", ppoll(poll, 2, &(struct timespec){0, 1000000}, &mask));
  sigprocmask(SIG_SETMASK, &none, 0);
  printf("handled: %d\n", handled);

  write(ends[1], "y", 1);
  show("normal data", ppoll(poll, 2, 0, 0));
  printf("events: %#x %#x\n", poll[0].revents, poll[1].revents);
  close(ends[1]);
  read(ends[0], &byte, 1);
  show("the other end is closed", ppoll(poll, 2, 0, 0));
  printf("events: %#x\n", poll[0].revents);
  poll[1].fd = 900;
  show("one that is not open", ppoll(poll + 1, 1, 0, 0));
  printf("events: %#x\n", poll[1].revents);
  return 0;
}
