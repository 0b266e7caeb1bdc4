/* SPDX-License-Identifier: Apache-2.0
 *
 * Loaded before a program that uses libpinfs (LD_PRELOAD): its context gets a higher descriptor
 * than what it opens later, so that a process that is killed loses the device first and the context
 * afterwards. Without this it is the other way round.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

struct pinfs_context;
int pinfs_context_open(const char* path, uint32_t flags, struct pinfs_context** out);

enum { KEPT_FREE = 16 };

int pinfs_context_open(const char* path, uint32_t flags, struct pinfs_context** out) {
    int (*const next)(const char*, uint32_t, struct pinfs_context**) = (int (*)(
        const char*, uint32_t, struct pinfs_context**))dlsym(RTLD_NEXT, "pinfs_context_open");
    int taken[KEPT_FREE];
    for (int i = 0; i < KEPT_FREE; ++i) taken[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int result = next(path, flags, out);
    for (int i = 0; i < KEPT_FREE; ++i) close(taken[i]);
    return result;
}
