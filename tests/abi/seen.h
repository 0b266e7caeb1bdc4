/* SPDX-License-Identifier: Apache-2.0
 *
 * The sizes and offsets of pinfs.h as a C11 program sees them. */
#ifndef TESTS_ABI_SEEN_H
#define TESTS_ABI_SEEN_H
#include <stddef.h>

#include "lib/pinfs/pinfs.h"
#include "lib/pinfs/protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

struct seen {
    const char* name;
    size_t bytes; /* of a struct; of a field its offset */
};
/* Ends with an entry of no name. */
extern const struct seen seen_in_c[];
extern const struct pinfs_pin pin_in_c;
extern const struct pinfs_lease lease_in_c;

/* Every struct, and its last field. */
#define EVERY_STRUCT(see)                                                                          \
    see(pinfs_extent, reserved, 32, 28) see(pinfs_lease, holders, 48, 40) see(                     \
        pinfs_event, deadline_ns, 48, 40) see(pinfs_pin, secret, 80, 64)                           \
        see(pinfs_region_info, device, 96, 88) see(pinfs_ioc_failure, message, 320, 8) see(        \
            pinfs_ioc_hello, reserved, 72, 40) see(pinfs_ioc_guard, reserved, 56, 24)              \
            see(pinfs_ioc_region, path, 4232, 136) see(pinfs_ioc_event, deadline_ns, 48, 40) see(  \
                pinfs_ioc_map_range, reserved, 56, 24) see(pinfs_ioc_extent, length_bytes, 24, 16) \
                see(pinfs_ioc_layout, reserved2, 96, 64) see(pinfs_ioc_lease, reserved2, 96, 64)   \
                    see(pinfs_ioc_map, reserved2, 120, 88) see(pinfs_ioc_pin, reserved2, 128, 96)  \
                        see(pinfs_ioc_pin_name, reserved, 48, 16)                                  \
                            see(pinfs_ioc_adopt, reserved, 88, 56)                                 \
                                see(pinfs_ioc_revoke, reserved, 48, 16)                            \
                                    see(pinfs_ioc_dax, reserved, 64, 4)

#ifdef __cplusplus
}
#endif
#endif
