// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/packets.h"

#include <sys/socket.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace pinfs::fuse {

namespace {

struct alignas(cmsghdr) Control {
    std::array<char, CMSG_SPACE(kPacketDescriptorsMax * sizeof(int))> bytes{};
};

}  // namespace

bool send_packet(int socket, std::span<iovec> parts, std::span<const int> descriptors) {
    assert(descriptors.size() <= kPacketDescriptorsMax);
    Control control;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    if (!descriptors.empty()) {
        message.msg_control = control.bytes.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t sent = 0;
    while ((sent = sendmsg(socket, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR) {
    }
    return sent >= 0;
}

ssize_t receive_packet(int socket, std::span<iovec> parts, std::vector<int>& descriptors) {
    descriptors.clear();
    Control control;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    ssize_t count = 0;
    while ((count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
    }
    const cmsghdr* const header = count >= 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return count;
    descriptors.resize((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(descriptors.data(), CMSG_DATA(header), descriptors.size() * sizeof(int));
    return count;
}

}  // namespace pinfs::fuse
