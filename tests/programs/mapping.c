/* Mappings that cannot be: each call with the error that Linux has for it (mmap(2), madvise(2), mremap(2), mlock(2)); private mappings
   of files, forgotten, moved and grown. Says what is wrong, and how much. Not compared: the emulator has its own idea of advice. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096L
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static int wrong, done;

static void expect(const char *what, long result, int error, int wanted) {
  done++;
  int right = wanted ? result == -1 && error == wanted : result != -1;
  if (right) return;
  wrong++;
  printf("%s: %ld %s, not %s\n", what, result, result == -1 ? strerrorname_np(error) : "", wanted ? strerrorname_np(wanted) : "success");
}

#define TRY(wanted, call)                           \
  do {                                              \
    errno = 0;                                      \
    long result = (long)(call);                     \
    expect(#call, result, errno, wanted);           \
  } while (0)
#define HOLDS(condition) expect(#condition, (condition) ? 0 : -1, 0, 0)

static void anonymous(void) {
  char *p = mmap(0, 8 * PAGE, RW, ANON, -1, 0);
  TRY(EEXIST, mmap(p + 7 * PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
  TRY(EPERM, mmap(0, PAGE, RW, ANON | MAP_FIXED, -1, 0));
  TRY(ENOMEM, mmap((void *)(1UL << 63), PAGE, RW, ANON | MAP_FIXED, -1, 0));
  TRY(ENOMEM, mmap((void *)-PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0));
  TRY(EINVAL, mmap(p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0));
  TRY(EINVAL, mmap(0, PAGE, RW, MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  TRY(EINVAL, mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0));
  TRY(EBADF, mmap(0, PAGE, RW, MAP_PRIVATE, 77, 0));
  TRY(ENOMEM, mmap(0, 1L << 50, PROT_NONE, ANON, -1, 0));

  munmap(p + 3 * PAGE, PAGE);
  memset(p, 1, 3 * PAGE), memset(p + 4 * PAGE, 1, 4 * PAGE);
  TRY(ENOMEM, madvise(p, 8 * PAGE, MADV_DONTNEED));
  HOLDS(p[0] == 0 && p[8 * PAGE - 1] == 0);
  int advice[] = {MADV_NORMAL, MADV_WILLNEED, MADV_FREE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_COLD};
  for (int i = 0; i < 6; i++) {
    TRY(ENOMEM, madvise(p, 8 * PAGE, advice[i]));
    TRY(0, madvise(p, 3 * PAGE, advice[i]));
  }
  TRY(EINVAL, madvise(p, PAGE, 999));
  TRY(EINVAL, madvise(p, 0, 999));
  TRY(EINVAL, madvise(p + 1, PAGE, MADV_NORMAL));
  TRY(EINVAL, madvise(p, -PAGE * 2, MADV_NORMAL));
  TRY(ENOMEM, mprotect(p, 8 * PAGE, PROT_READ));
  TRY(ENOMEM, mprotect((void *)(1UL << 60), PAGE, PROT_READ));
  TRY(ENOMEM, mlock(p, 8 * PAGE));
  TRY(0, mlock(p + 100, PAGE));
  TRY(ENOMEM, munlock(p + 3 * PAGE, PAGE));
  TRY(ENOMEM, msync(p, 8 * PAGE, MS_SYNC));
  TRY(EINVAL, msync(p, PAGE, MS_SYNC | MS_ASYNC));
  TRY(EFAULT, mremap(p, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE));
  TRY(EINVAL, mremap(p, 0, PAGE, MREMAP_MAYMOVE));
  TRY(EINVAL, munmap(p, 0));

  char *zeroes = mmap(0, PAGE, RW, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
  HOLDS(zeroes != MAP_FAILED && zeroes[0] == 0);

  char *lazy = mmap(0, 64 << 20, RW, ANON | MAP_NORESERVE, -1, 0);
  TRY(0, madvise(lazy, 4 << 20, MADV_POPULATE_WRITE));
  TRY(0, mlock(lazy + (8 << 20), 2 << 20));
  HOLDS(lazy[1 << 20] == 0);
}

static void files(void) {
  char text[PAGE], *map, *moved;
  int file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600), only_write = open("/tmp/file", O_WRONLY), only_read = open("/tmp/file", O_RDONLY), ends[2];
  for (int page = 0; page < 4; page++) memset(text, 'a' + page, PAGE), write(file, text, page < 3 ? PAGE : 10);
  pipe(ends);
  TRY(EACCES, mmap(0, PAGE, PROT_READ, MAP_PRIVATE, only_write, 0));
  TRY(EACCES, mmap(0, PAGE, RW, MAP_SHARED, only_read, 0));
  TRY(ENODEV, mmap(0, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0));
  TRY(ENODEV, mmap(0, PAGE, PROT_READ, MAP_PRIVATE, open("/tmp", O_RDONLY), 0));
  TRY(EINVAL, mmap(0, PAGE, PROT_READ, MAP_PRIVATE, file, 12));

  map = mmap(0, 4 * PAGE, RW, MAP_PRIVATE, file, 0);
  HOLDS(map[0] == 'a' && map[3 * PAGE + 9] == 'd' && map[3 * PAGE + 10] == 0);
  memset(map, 'x', 4 * PAGE);
  TRY(0, madvise(map + PAGE, PAGE, MADV_DONTNEED));
  HOLDS(map[PAGE - 1] == 'x' && map[PAGE] == 'b' && map[2 * PAGE - 1] == 'b' && map[2 * PAGE] == 'x');
  pwrite(file, "new", 3, PAGE);
  TRY(0, madvise(map, 4 * PAGE, MADV_DONTNEED));
  HOLDS(map[0] == 'a' && !memcmp(map + PAGE, "newb", 4) && map[3 * PAGE] == 'd' && map[3 * PAGE + 10] == 0);

  /* A part that has moved knows its place in the file; one that grows has what the file has there. */
  char *place = mmap(0, 16 * PAGE, PROT_NONE, ANON, -1, 0);
  moved = mremap(map + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
  HOLDS(moved == place && moved[0] == 'c' && moved[PAGE] == 'd');
  moved[0] = 'x';
  TRY(0, madvise(moved, 2 * PAGE, MADV_DONTNEED));
  HOLDS(moved[0] == 'c' && moved[PAGE + 9] == 'd');
  TRY(ENOMEM, madvise(map, 4 * PAGE, MADV_DONTNEED));
  HOLDS(map[0] == 'a' && map[3 * PAGE] == 'd');

  /* The file stays as long as it is mapped. */
  close(file), close(only_read), close(only_write);
  unlink("/tmp/file");
  map[0] = 'x';
  TRY(0, madvise(map, PAGE, MADV_DONTNEED));
  HOLDS(map[0] == 'a');
  for (int i = 0; i < 100; i++) {
    file = open("/tmp/other", O_RDWR | O_CREAT, 0600);
    write(file, text, PAGE);
    map = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    HOLDS(map[0] == 'd');
    munmap(map, PAGE);
    unlink("/tmp/other");
  }
}

int main(void) {
  anonymous();
  files();
  printf("%d of %d wrong\n", wrong, done);
  return wrong != 0;
}
