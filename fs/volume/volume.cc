// SPDX-License-Identifier: Apache-2.0
//
// Volume: the interface, one line each.
#include "fs/volume/volume.h"

#include "fs/volume/core.h"

namespace pinfs {

// What gives something back has MustFinish here: nobody would ask again.

Volume::Volume(std::unique_ptr<Core> core) : core_{std::move(core)} {}
Volume::~Volume() = default;

Expected<std::unique_ptr<Volume>> Volume::mount(pmem::Region& region, const MountOptions& options) {
    const auto super = TRY(read_superblock(region, !options.read_only));
    if ((super.read_only & ~media::kReadOnlyKnown) != 0 && !options.read_only)
        return fail(Cause::feature_unknown, super.own_offset);
    auto core = std::make_unique<Core>(region, super, options);
    TRY(core->mount());
    return std::unique_ptr<Volume>{new Volume{std::move(core)}};
}

Expected<void> Volume::unmount() { return core_->unmount(); }
Expected<void> Volume::hand_over() { return core_->hand_over(); }
SessionStart Volume::session_start() const { return core_->session_start(); }
Expected<void> Volume::set_read_only(bool read_only) { return core_->set_read_only(read_only); }
void Volume::set_access_times(AtimePolicy policy, bool directories) {
    core_->set_access_times(policy, directories);
}
bool Volume::read_only() const { return core_->read_only(); }
void Volume::shut_down() {
    const MustFinish finish;
    core_->shut_down();
}
bool Volume::is_shut_down() const { return core_->is_shut_down(); }
std::vector<Ino> Volume::known_inodes() const { return core_->states().all(); }
const MountReport& Volume::report() const { return core_->report(); }
Statistics Volume::statistics() const { return core_->statistics(); }
std::string_view Volume::label() const { return core_->label(); }

Expected<Entry> Volume::lookup(Ino parent, std::string_view name) {
    return core_->lookup(parent, name);
}
void Volume::forget(Ino ino, std::uint64_t count) {
    const MustFinish finish;
    core_->forget(ino, count);
}
Expected<Entry> Volume::make(Ino parent, std::string_view name, const NewInode& inode,
                             Caller caller) {
    return core_->make(parent, name, inode, caller);
}
Expected<Entry> Volume::make_unnamed(Ino parent, const NewInode& inode, Caller caller) {
    return core_->make_unnamed(parent, inode, caller);
}
Expected<Entry> Volume::link(Ino ino, Ino parent, std::string_view name) {
    return core_->link(ino, parent, name);
}
Expected<void> Volume::unlink(Ino parent, std::string_view name) {
    return core_->remove(parent, name, false);
}
Expected<void> Volume::remove_directory(Ino parent, std::string_view name) {
    return core_->remove(parent, name, true);
}
Expected<void> Volume::rename(Ino parent, std::string_view name, Ino new_parent,
                              std::string_view new_name, std::uint32_t flags, Caller caller) {
    return core_->rename(parent, name, new_parent, new_name, flags, caller);
}
Expected<std::string> Volume::read_link(Ino ino) { return core_->read_link(ino); }
Expected<void> Volume::read_directory(Ino ino, std::uint64_t cookie,
                                      const std::function<bool(const DirectoryItem&)>& sink) {
    return core_->read_directory(ino, cookie, sink);
}
Expected<Attributes> Volume::attributes(Ino ino) { return core_->attributes(ino); }
Expected<Attributes> Volume::change_attributes(Ino ino, const AttributeChange& change) {
    return core_->change_attributes(ino, change);
}
Expected<std::vector<std::byte>> Volume::attribute(Ino ino, std::string_view name) {
    return core_->attribute(ino, name);
}
Expected<std::vector<std::string>> Volume::attribute_names(Ino ino) {
    return core_->attribute_names(ino);
}
Expected<void> Volume::set_attribute(Ino ino, std::string_view name,
                                     std::span<const std::byte> value, SetAttribute how,
                                     bool kill_setgid) {
    return core_->set_attribute(ino, name, value, how, kill_setgid);
}
Expected<void> Volume::remove_attribute(Ino ino, std::string_view name) {
    return core_->remove_attribute(ino, name);
}
Expected<bool> Volume::open(Ino ino, OpenFor purpose) { return core_->open(ino, purpose); }
bool Volume::release(Ino ino) {
    const MustFinish finish;
    return core_->release(ino);
}
Expected<std::size_t> Volume::read(Ino ino, std::uint64_t offset_bytes, std::span<std::byte> out,
                                   bool noted) {
    return core_->read(ino, offset_bytes, out, noted);
}
bool Volume::note_access(Ino ino) { return core_->note_access(ino); }
Expected<std::size_t> Volume::write(Ino ino, std::uint64_t offset_bytes,
                                    std::span<const std::byte> bytes, bool append,
                                    bool kill_privileges) {
    return core_->write(ino, offset_bytes, bytes, append, kill_privileges);
}
Expected<void> Volume::allocate(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                bool keep_size) {
    return core_->allocate(ino, offset_bytes, length_bytes, keep_size);
}
Expected<void> Volume::zero_range(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                  bool keep_size) {
    return core_->zero_range(ino, offset_bytes, length_bytes, keep_size);
}
Expected<void> Volume::punch_hole(Ino ino, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    return core_->punch_hole(ino, offset_bytes, length_bytes);
}
Expected<std::size_t> Volume::copy(Ino from, std::uint64_t from_offset_bytes, Ino to,
                                   std::uint64_t to_offset_bytes, std::uint64_t length_bytes) {
    return core_->copy(from, from_offset_bytes, to, to_offset_bytes, length_bytes);
}
Expected<std::uint64_t> Volume::seek(Ino ino, std::uint64_t offset_bytes, SeekTo to) {
    return core_->seek(ino, offset_bytes, to);
}
Expected<void> Volume::sync(Ino ino) { return core_->sync(ino); }
Expected<std::vector<ExtentInfo>> Volume::extents(Ino ino, std::uint64_t offset_bytes,
                                                  std::uint64_t length_bytes, std::size_t at_most) {
    return core_->extents(ino, offset_bytes, length_bytes, at_most);
}
Expected<std::uint64_t> Volume::open_context(const pin::Owner& owner) {
    return core_->open_context(owner);
}
void Volume::close_context(std::uint64_t context) {
    const MustFinish finish;
    core_->close_context(context);
}
Expected<std::uint64_t> Volume::open_guard(std::uint64_t context) {
    return core_->open_guard(context);
}
void Volume::close_guard(std::uint64_t guard) {
    const MustFinish finish;
    core_->close_guard(guard);
}
void Volume::set_event_sink(std::function<void(std::uint64_t context)> wake) {
    core_->set_event_sink(std::move(wake));
}
void Volume::set_change_sink(std::function<void(Ino ino)> changed) {
    core_->set_change_sink(std::move(changed));
}
std::string Volume::path(Ino ino) { return core_->path_of(ino).value_or(std::string{}); }
Expected<std::optional<pin::Event>> Volume::next_event(std::uint64_t context) {
    return core_->next_event(context);
}
bool Volume::has_event(std::uint64_t context) { return core_->has_event(context); }
Expected<LeaseAnswer> Volume::set_lease(OpenFile file, const LeaseRequest& request) {
    return core_->set_lease(file, request);
}
Expected<LeaseAnswer> Volume::lease(OpenFile file, std::uint64_t offset_bytes,
                                    std::uint64_t length_bytes) {
    return core_->lease(file, offset_bytes, length_bytes);
}
Expected<void> Volume::drop_lease(OpenFile file, std::uint64_t offset_bytes,
                                  std::uint64_t length_bytes) {
    const MustFinish finish;
    return core_->drop_lease(file, offset_bytes, length_bytes);
}
void Volume::drop_leases(OpenFile file) {
    const MustFinish finish;
    core_->drop_leases(file);
}
Expected<MapAnswer> Volume::map(OpenFile file, const MapRequest& request) {
    return core_->map(file, request);
}
Expected<void> Volume::unmap(std::uint64_t context, std::uint64_t id) {
    const MustFinish finish;
    return core_->unmap(context, id);
}
Expected<LayoutAnswer> Volume::reload_map(std::uint64_t context, std::uint64_t id,
                                          std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    return core_->reload_map(context, id, offset_bytes, length_bytes);
}
Expected<void> Volume::declare_clean(std::uint64_t context, std::uint64_t id,
                                     std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    return core_->declare_clean(context, id, offset_bytes, length_bytes);
}
Expected<LayoutAnswer> Volume::layout(Ino ino, std::uint64_t offset_bytes,
                                      std::uint64_t length_bytes) {
    return core_->layout(ino, offset_bytes, length_bytes);
}
Expected<PinAnswer> Volume::pin(OpenFile file, const PinRequest& request) {
    return core_->pin(file, request);
}
Expected<void> Volume::unpin(const pin::Owner& who, std::uint64_t id, std::uint64_t generation) {
    const MustFinish finish;
    return core_->unpin(who, id, generation);
}
Expected<std::vector<Extent>> Volume::pin_extents(const pin::Owner& who, std::uint64_t id,
                                                  std::uint64_t generation,
                                                  std::uint64_t offset_bytes,
                                                  std::uint64_t length_bytes) {
    return core_->pin_extents(who, id, generation, offset_bytes, length_bytes);
}
Expected<PinAnswer> Volume::adopt_pin(const pin::Owner& who, std::uint64_t id,
                                      std::uint64_t generation, const pin::Secret& secret) {
    return core_->adopt_pin(who, id, generation, secret);
}
Expected<PinAnswer> Volume::transfer_pin(std::uint64_t from, const pin::Owner& to, std::uint64_t id,
                                         std::uint64_t generation) {
    return core_->transfer_pin(from, to, id, generation);
}
Expected<void> Volume::revoke(std::uint64_t id, std::uint64_t grace_ms) {
    return core_->revoke(id, grace_ms);
}
Expected<void> Volume::release_hold(std::uint64_t id) { return core_->release_hold(id); }
Expected<ScrubPiece> Volume::scrub(const ScrubPlace& from, const ScrubOptions& options) {
    return core_->scrub(from, options);
}
Expected<std::vector<PinnedItem>> Volume::pinned(const PinnedFilter& filter) {
    return core_->pinned(filter);
}
PinnedTotals Volume::pinned_totals() { return core_->pinned_totals(); }
std::pair<std::uint64_t, std::uint64_t> Volume::charged_bytes(std::uint32_t uid) {
    return core_->charged_bytes(uid);
}
std::string Volume::describe(std::uint64_t id) { return core_->describe(id); }
const pmem::Region& Volume::region() const { return core_->region(); }
std::array<std::uint8_t, 16> Volume::uuid() const { return core_->uuid(); }
std::uint64_t Volume::map_unit_bytes() const { return core_->map_unit_bytes(); }
Expected<void> Volume::finish_pending() { return core_->finish_pending(); }

}  // namespace pinfs
