/*
 * A resolver that never answers for hangs.example, and uses the C library for other names.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int (*Resolver)(const char *restrict, const char *restrict, const struct addrinfo *restrict,
                        struct addrinfo **restrict);

int getaddrinfo(const char *restrict host, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    Resolver next = (Resolver) dlsym(RTLD_NEXT, "getaddrinfo");

    while (host && strcmp(host, "hangs.example") == 0)
        pause();
    return next(host, service, hints, found);
}
