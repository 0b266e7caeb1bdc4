// SPDX-License-Identifier: Apache-2.0
//
// What is tried with any input (README.md). Each call stands for itself; what must not be ends the
// program.
#pragma once

#include <cstdint>
#include <span>

namespace pinfs::fuzz {

void try_client(std::span<const std::uint8_t> bytes);
void try_image(std::span<const std::uint8_t> bytes);
void try_ioctl(std::span<const std::uint8_t> bytes);

}  // namespace pinfs::fuzz
