/* SPDX-License-Identifier: Apache-2.0
 *
 * kv FILE put KEY VALUE | get KEY | list | many COUNT: a table in a file on a pinfs mount that
 * loads and stores alone keep whole. No system call is made for a change, and none is lost once
 * `put` said so, whenever the program is killed.
 *
 * A slot counts if its number is not zero; of two with one key the higher number does. A change is
 *   1  key and value into a slot that does not count
 *   2  its number: one aligned store of 8 bytes, which a power cut tears no more than a kill does
 *   3  the old slot's number becomes zero
 * each durable before the next. Cut before 2 nothing happened; before 3 the next change finishes
 * it.
 *
 *     cc kv.c $(pkg-config --cflags --libs libpinfs)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pinfs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOTS = 8192, TEXT = 56 };

struct slot {
    uint64_t number;
    uint64_t reserved;
    char key[TEXT];
    char value[TEXT];
};
_Static_assert(sizeof(struct slot) == 128, "whole cache lines");

static void fail(const char* what, const char* why) {
    fprintf(stderr, "kv: %s: %s\n", what, why);
    exit(1);
}

static void need(const char* what, int result) {
    if (result < 0) fail(what, pinfs_last_error());
}

static struct slot* find(struct slot* table, const char* key) {
    struct slot* found = NULL;
    for (int i = 0; i < SLOTS; i++)
        if (table[i].number != 0 && strcmp(table[i].key, key) == 0)
            if (found == NULL || table[i].number > found->number) found = &table[i];
    return found;
}

static void set_number(struct slot* slot, uint64_t number) {
    __atomic_store_n(&slot->number, number, __ATOMIC_RELEASE);
    need("persist", pinfs_persist(&slot->number, sizeof(slot->number)));
}

static void put(struct slot* table, const char* key, const char* value) {
    if (strlen(key) >= TEXT || strlen(value) >= TEXT) fail(key, "too long");
    struct slot* const old = find(table, key);
    const uint64_t number = old != NULL ? old->number : 0;
    struct slot* empty = NULL;
    for (int i = 0; i < SLOTS; i++) {
        struct slot* const slot = &table[i];
        /* What a kill between 2 and 3 left. */
        if (slot != old && slot->number != 0 && old != NULL && strcmp(slot->key, key) == 0)
            set_number(slot, 0);
        if (slot->number == 0 && empty == NULL) empty = slot;
    }
    if (empty == NULL) fail(key, "the table is full");
    struct slot changed = {.number = 0};
    strcpy(changed.key, key);
    strcpy(changed.value, value);
    need("persist", pinfs_memcpy_persist(empty, &changed, sizeof(changed))); /* 1 */
    set_number(empty, number + 1);                                           /* 2 */
    if (old != NULL) set_number(old, 0);                                     /* 3 */
}

int main(int argc, char** argv) {
    if (argc < 3) fail("usage", "kv FILE put KEY VALUE | get KEY | list | many COUNT");
    const char* const path = argv[1];
    const char* const command = argv[2];
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    /* One at a time; and never shorter than it is. */
    if (file < 0 || flock(file, LOCK_EX) != 0) fail(path, strerror(errno));
    const uint64_t length = SLOTS * sizeof(struct slot);
    if (lseek(file, 0, SEEK_END) < (off_t)length && ftruncate(file, (off_t)length) != 0)
        fail(path, strerror(errno));

    /* An exclusive lease: nobody cuts the table off while it is mapped here. */
    struct pinfs_context* context = NULL;
    need("context", pinfs_context_open(path, 0, &context));
    struct pinfs_lease lease = PINFS_INIT(struct pinfs_lease);
    lease.flags = PINFS_LEASE_LAYOUT | PINFS_LEASE_EXCLUSIVE;
    lease.length_bytes = length;
    need("lease", pinfs_lease_set(context, file, &lease));
    void* memory = NULL;
    need("map", pinfs_map(context, file, 0, length, PROT_READ | PROT_WRITE, PINFS_MAP_SELF_FLUSH,
                          &memory));
    struct slot* const table = memory;

    int status = 0;
    if (strcmp(command, "put") == 0 && argc == 5) {
        put(table, argv[3], argv[4]);
    } else if (strcmp(command, "get") == 0 && argc == 4) {
        const struct slot* const slot = find(table, argv[3]);
        status = slot == NULL;
        if (slot != NULL) puts(slot->value);
    } else if (strcmp(command, "list") == 0) {
        for (int i = 0; i < SLOTS; i++)
            if (table[i].number != 0 && find(table, table[i].key) == &table[i])
                printf("%s\t%s\n", table[i].key, table[i].value);
    } else if (strcmp(command, "many") == 0 && argc == 4) {
        /* Says which are durable, so that whoever kills it knows what must be there. */
        for (long i = 0; i < atol(argv[3]); i++) {
            char key[TEXT];
            char value[TEXT];
            snprintf(key, sizeof(key), "key %ld", i % 1000);
            snprintf(value, sizeof(value), "value %ld", i);
            put(table, key, value);
            printf("%ld\n", i);
            fflush(stdout);
        }
    } else {
        fail(command, "no such command");
    }
    pinfs_context_close(context);
    close(file);
    return status;
}
