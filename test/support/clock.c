/*
 * A wall clock that a test can set. Preloaded into the processes of a server, it adds the number of seconds
 * in the file named by JOB_ALERTING_CLOCK (64 bits) to the time of day. PostgreSQL's sleeps and time-outs use
 * another clock, and do not change.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void find_clock(void)
{
    const char *name = getenv("JOB_ALERTING_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, file, 0);

    /* The test must not run with a server that has the true time. */
    if (map == MAP_FAILED)
        abort();
    ahead = map;
}

static struct timespec now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_sec += ahead ? *ahead : 0;
    return time;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec it = now();

    (void) zone;
    time->tv_sec = it.tv_sec;
    time->tv_usec = it.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds)
{
    struct timespec it = now();

    if (seconds)
        *seconds = it.tv_sec;
    return it.tv_sec;
}
