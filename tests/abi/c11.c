/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/abi/seen.h"

#define SEE(type, field, bytes, offset) \
    {#type, sizeof(struct type)}, {#type "." #field, offsetof(struct type, field)},

const struct seen seen_in_c[] = {EVERY_STRUCT(SEE){NULL, 0}};
const struct pinfs_pin pin_in_c = PINFS_PIN_INIT;
const struct pinfs_lease lease_in_c = PINFS_INIT(struct pinfs_lease);
