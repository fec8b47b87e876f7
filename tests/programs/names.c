/* build: -pthread */
/* Names of threads, and their clocks. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t barrier, spins;
static volatile int stop;

static void *sleep_long(void *unused) {
  char name[16];
  prctl(PR_GET_NAME, name);
  printf("inherited: %s\n", name);
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  prctl(PR_GET_NAME, name);
  printf("given by another thread: %s\n", name);
  return 0;
}

static void *spin(void *unused) {
  pthread_barrier_wait(&spins);
  while (!stop) {
  }
  return 0;
}

static void file(const char *path) {
  char line[40] = "";
  FILE *file = fopen(path, "r");
  if (file) fgets(line, sizeof line, file), fclose(file);
  printf("%s: %s", path, file ? line : "none\n");
}

static double read_clock(clockid_t clock) {
  struct timespec t = {-1, 0};
  clock_gettime(clock, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(void) {
  char name[16];
  pthread_t sleeper, spinner;
  clockid_t clock, sleeping;
  struct timespec t;
  pthread_barrier_init(&barrier, 0, 2);
  pthread_barrier_init(&spins, 0, 2);
  prctl(PR_GET_NAME, name);
  printf("first: %d\n", !strcmp(name, "names") || !strncmp(name, "qemu", 4));
  printf("set: %d\n", prctl(PR_SET_NAME, "a name of more than fifteen bytes"));
  prctl(PR_GET_NAME, name);
  printf("cut: %s\n", name);
  file("/proc/self/comm");
  file("/proc/thread-self/comm");
  printf("bad address: %d %s\n", prctl(PR_SET_NAME, 8), strerror(errno));
  pthread_create(&sleeper, 0, sleep_long, 0);
  pthread_barrier_wait(&barrier);
  printf("another thread: %s\n", strerror(pthread_setname_np(sleeper, "sleeper")));
  printf("ask: %s %s\n", strerror(pthread_getname_np(sleeper, name, 16)), name);
  printf("too long: %s\n", strerror(pthread_setname_np(sleeper, "sixteen bytes and more")));

  /* A thread that sleeps uses nothing, one that spins uses all of its core's time, whoever asks. */
  pthread_getcpuclockid(sleeper, &sleeping);
  double before = read_clock(sleeping);
  pthread_create(&spinner, 0, spin, 0);
  printf("a clock: %s\n", strerror(pthread_getcpuclockid(spinner, &clock)));
  pthread_barrier_wait(&spins);
  for (double start = read_clock(clock); read_clock(clock) - start < 0.05;) usleep(1000);
  printf("sleeps: %d\n", read_clock(sleeping) - before < 0.02);
  clockid_t process;
  printf("the process's: %s\n", strerror(clock_getcpuclockid(0, &process)));
  double of_process = read_clock(process), of_thread = read_clock(clock);
  printf("that of all is more: %d\n", of_process >= 0.05 && of_thread >= 0.05);
  stop = 1;
  pthread_join(spinner, 0);
  usleep(50000);
  printf("one that has ended: %d %s\n", clock_gettime(clock, &t), strerror(errno));
  printf("no such process: %s\n", strerror(clock_getcpuclockid(99999999, &process)));
  printf("no such clock: %d %s\n", clock_gettime(77, &t), strerror(errno));
  printf("resolution: %d\n", clock_getres(sleeping, &t));
  printf("a sleep by it: %s\n", strerror(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &(struct timespec){0}, 0)));
  pthread_barrier_wait(&barrier);
  pthread_join(sleeper, 0);
  return 0;
}
