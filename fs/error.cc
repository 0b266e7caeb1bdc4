// SPDX-License-Identifier: Apache-2.0
#include "fs/error.h"

#include <cstring>

namespace pinfs {

std::string Error::message() const {
    std::string text{cause == Cause::system && system_errno != 0 ? ::strerror(system_errno)
                                                                 : sentence_of(cause)};
    if (offset != 0) text.append(" at region offset ").append(std::to_string(offset));
    if (ino != 0) text.append(" (inode ").append(std::to_string(ino)).append(")");
    return text;
}

}  // namespace pinfs
