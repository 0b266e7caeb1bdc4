// SPDX-License-Identifier: Apache-2.0
#pragma once

// The header of glibc 2.36 does not say that these are C.
extern "C" {
#include <sys/pidfd.h>
}
