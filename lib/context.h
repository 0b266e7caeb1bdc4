// SPDX-License-Identifier: Apache-2.0
//
// A context: the open file of MOUNT/.pinfs/context, and what this process did through it.
//
// Thread rules: `mutex` guards everything that changes after the context was opened. It is held
// over requests to the daemon only where a map is remapped, and the daemon waits for nobody. The
// address lock (address_space.h) is taken below it.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "lib/address_space.h"
#include "lib/pinfs/protocol.h"

namespace pinfs::client {

/// An open file of ours. The program may close any descriptor (close_range(2)), and open another
/// file with its number: that one is neither used nor closed.
class OpenFile {
public:
    OpenFile() = default;
    explicit OpenFile(int fd);
    ~OpenFile();
    OpenFile(OpenFile&& other) noexcept;
    OpenFile& operator=(OpenFile&& other) noexcept;

    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] std::uint64_t device() const { return device_; }  ///< that it is on
    [[nodiscard]] bool is_open() const;

private:
    int fd_ = -1;
    std::uint64_t device_ = 0;
    std::uint64_t inode_ = 0;
};

struct Map {
    std::uint64_t id = 0;
    AddressRange range;
    std::uint64_t file_begin = 0;
    std::uint64_t length_bytes = 0;  ///< as the program asked
    int protection = 0;
    std::uint32_t flush = 0;      ///< PINFS_FLUSH_*
    std::vector<Extent> extents;  ///< what it shows now, in the file's order
};

struct PinName {
    std::uint64_t id = 0;
    std::uint64_t generation = 0;
    auto operator<=>(const PinName&) const = default;
};

/// Daemons number their contexts: two mounts may have one of the same number.
struct ContextName {
    std::uint64_t device = 0;  ///< of the mount
    std::uint64_t id = 0;
    auto operator<=>(const ContextName&) const = default;
};

}  // namespace pinfs::client

struct pinfs_context {
    std::uint64_t fork_count = 0;  ///< at which it was opened
    pinfs::client::OpenFile file;
    pinfs::client::ContextName name;
    std::uint8_t token[16] = {};
    pinfs_ioc_region region = {};

    std::mutex mutex;  ///< of what follows
    void* guard = nullptr;
    std::uint64_t guard_id = 0;
    pinfs::client::OpenFile region_file;
    bool region_writable = false;
    std::map<const std::byte*, pinfs::client::Map> maps;      ///< by address
    std::map<std::uint64_t, const std::byte*> map_addresses;  ///< by id
    std::size_t maps_under_way = 0;                           ///< asked for, not yet in `maps`
    std::set<std::uint64_t> early;                            ///< ids whose GONE came before that
    std::optional<pinfs_ioc_event> again;  ///< an event that was not followed yet
};

namespace pinfs::client {

/// -EINVAL for none, -ESTALE for one of the process that this one was forked from.
int check(const pinfs_context* context);

/// HELLO and REGION: what a context knows from its first moment on.
int introduce(pinfs_context& context);

/// The context that a descriptor is of.
int context_behind(int fd, ContextName& name);

/// A context of this process, if it is one, owns a pin from now on, or no longer. False: it does
/// already.
bool add_pin(const ContextName& context, PinName pin);
void remove_pin(const ContextName& context, PinName pin);

/// Opens the region's file, once, for as much as it lets this user do. Refuses another region's.
/// The caller holds the context's mutex.
int open_region(pinfs_context& context, bool writable);
Memory memory_of(const pinfs_context& context);

/// UNMAP of everything. Part of closing.
void end_maps(pinfs_context& context);

/// Where an event is about a map, remaps what it says is gone, and gives it the map's address as
/// user data. -errno: the map shows what it did. The caller holds the context's mutex.
int follow(pinfs_context& context, pinfs_ioc_event& event);

}  // namespace pinfs::client
