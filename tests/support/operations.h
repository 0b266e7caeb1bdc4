// SPDX-License-Identifier: Apache-2.0
//
// Short names for operations, so that a workload reads as what it does.
#pragma once

#include "tests/support/operation.h"

namespace pinfs::test::operations {

inline Operations operator+(Operations left, const Operations& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

inline Operation create(std::string path) {
    return {.what = Do::create, .path = std::move(path), .number = 0640};
}
inline Operation make_directory(std::string path) {
    return {.what = Do::make_directory, .path = std::move(path), .number = 0750};
}
inline Operation make_node(std::string path, std::uint32_t mode, std::uint64_t major = 0,
                           std::uint64_t minor = 0) {
    return {.what = Do::make_node,
            .path = std::move(path),
            .offset = major,
            .length = minor,
            .number = mode};
}
inline Operation make_unnamed(std::string directory, std::uint32_t handle) {
    return {.what = Do::make_unnamed, .path = std::move(directory), .seed = 0620, .number = handle};
}
inline Operation symbolic_link(std::string path, std::string target) {
    return {.what = Do::symbolic_link, .path = std::move(path), .other = std::move(target)};
}
inline Operation link(std::string file, std::string name) {
    return {.what = Do::link, .path = std::move(file), .other = std::move(name)};
}
inline Operation rename(std::string from, std::string to, std::uint32_t flags = 0) {
    return {.what = Do::rename, .path = std::move(from), .other = std::move(to), .number = flags};
}
inline Operation unlink(std::string path) { return {.what = Do::unlink, .path = std::move(path)}; }
inline Operation remove_directory(std::string path) {
    return {.what = Do::remove_directory, .path = std::move(path)};
}
inline Operation write(std::string path, std::uint64_t offset, std::uint64_t length,
                       std::uint64_t seed = 1) {
    return {.what = Do::write,
            .path = std::move(path),
            .offset = offset,
            .length = length,
            .seed = seed};
}
inline Operation append(std::string path, std::uint64_t length, std::uint64_t seed = 1) {
    return {.what = Do::append, .path = std::move(path), .length = length, .seed = seed};
}
inline Operation truncate(std::string path, std::uint64_t size) {
    return {.what = Do::truncate, .path = std::move(path), .length = size};
}
inline Operation allocate(std::string path, std::uint64_t offset, std::uint64_t length,
                          bool keep_size = false) {
    return {.what = Do::allocate,
            .path = std::move(path),
            .offset = offset,
            .length = length,
            .number = keep_size};
}
inline Operation zero_range(std::string path, std::uint64_t offset, std::uint64_t length,
                            bool keep_size = false) {
    return {.what = Do::zero_range,
            .path = std::move(path),
            .offset = offset,
            .length = length,
            .number = keep_size};
}
inline Operation punch_hole(std::string path, std::uint64_t offset, std::uint64_t length) {
    return {.what = Do::punch_hole, .path = std::move(path), .offset = offset, .length = length};
}
inline Operation copy(std::string from, std::uint64_t offset, std::string to,
                      std::uint64_t to_offset, std::uint64_t length) {
    return {.what = Do::copy,
            .path = std::move(from),
            .other = std::move(to),
            .offset = offset,
            .length = length,
            .seed = to_offset};
}
inline Operation set_attribute(std::string path, std::string name, std::uint64_t length,
                               std::uint64_t seed = 1,
                               SetAttribute how = SetAttribute::create_or_replace) {
    return {.what = Do::set_attribute,
            .path = std::move(path),
            .other = std::move(name),
            .length = length,
            .seed = seed,
            .number = static_cast<std::uint32_t>(how)};
}
inline Operation set_list(std::string path, bool is_default, std::uint64_t permissions) {
    return {.what = Do::set_list,
            .path = std::move(path),
            .other = is_default ? "system.posix_acl_default" : "system.posix_acl_access",
            .seed = permissions};
}
inline Operation remove_attribute(std::string path, std::string name) {
    return {.what = Do::remove_attribute, .path = std::move(path), .other = std::move(name)};
}
inline Operation change_mode(std::string path, std::uint32_t mode) {
    return {.what = Do::change_mode, .path = std::move(path), .number = mode};
}
inline Operation change_owner(std::string path, std::uint32_t uid, std::uint32_t gid) {
    return {.what = Do::change_owner, .path = std::move(path), .seed = gid, .number = uid};
}
inline Operation set_times(std::string path, std::uint64_t atime, std::uint64_t mtime) {
    return {.what = Do::set_times, .path = std::move(path), .offset = atime, .length = mtime};
}
inline Operation sync(std::string path) { return {.what = Do::sync, .path = std::move(path)}; }
inline Operation open(std::string path, std::uint32_t handle) {
    return {.what = Do::open, .path = std::move(path), .number = handle};
}
/// Of the whole file.
inline Operation lease(std::string path, std::uint32_t number, bool exclusive) {
    return {
        .what = Do::lease, .path = std::move(path), .seed = exclusive ? 1u : 0u, .number = number};
}
inline Operation drop_lease(std::string path, std::uint32_t number) {
    return {.what = Do::drop_lease, .path = std::move(path), .number = number};
}
inline Operation map(std::string path, std::uint64_t offset, std::uint64_t length,
                     std::uint32_t number) {
    return {.what = Do::map,
            .path = std::move(path),
            .offset = offset,
            .length = length,
            .number = number};
}
inline Operation pin(std::string path, std::uint64_t offset, std::uint64_t length,
                     std::uint32_t number) {
    return {.what = Do::pin,
            .path = std::move(path),
            .offset = offset,
            .length = length,
            .number = number};
}
inline Operation drop(std::uint32_t number) { return {.what = Do::drop, .number = number}; }
inline Operation reload(std::uint32_t number) { return {.what = Do::reload, .number = number}; }
inline Operation lose_owner() { return {.what = Do::lose_owner}; }
inline Operation release(std::uint32_t handle) { return {.what = Do::release, .number = handle}; }
inline Operation finish_pending() { return {.what = Do::finish_pending}; }
inline Operation unmount() { return {.what = Do::unmount}; }
inline Operation abandon() { return {.what = Do::abandon}; }
inline Operation mount() { return {.what = Do::mount}; }

}  // namespace pinfs::test::operations
