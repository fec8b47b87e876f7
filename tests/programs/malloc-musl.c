/* build: musl */
/* The same with musl's heap. */
#include "malloc.c"
